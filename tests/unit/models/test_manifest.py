import copy
import tomllib

import pytest

from ketang_models import registry
from ketang_models.manifest import (
    FORBIDDEN,
    ForbiddenOutput,
    ModelRefused,
    Output,
    parse_manifest,
    read_manifest,
)

SHIPPED = registry.SHIPPED / "mtcnn" / "manifest.toml"


def said():
    return copy.deepcopy(tomllib.loads(SHIPPED.read_text("utf-8")))


def test_the_shipped_manifest_promises_a_count_and_the_quality_of_the_picture():
    manifest = read_manifest(SHIPPED)
    assert set(manifest.outputs) == set(Output)
    assert [one.role for one in manifest.files] == ["pnet", "rnet", "onet"]


@pytest.mark.parametrize("stem", FORBIDDEN)
def test_a_manifest_that_names_a_forbidden_output_does_not_load(stem):
    changed = said()
    changed["outputs"] = ["heads", f"{stem}x"]
    with pytest.raises(ForbiddenOutput, match="counts heads and computes nothing else"):
        parse_manifest(changed, "manifest.toml")


@pytest.mark.parametrize(
    "hide",
    [
        lambda it: it.update(task="Recognition"),
        lambda it: it.update(name="emotion-net"),
        lambda it: it.update(decoder="gaze"),
        lambda it: it["files"][2]["tensors"].append("facial_LANDMARKS"),
        lambda it: it["files"][0].update(role="embedding"),
    ],
)
def test_it_is_found_wherever_the_manifest_hides_it(hide):
    changed = said()
    hide(changed)
    with pytest.raises(ForbiddenOutput):
        parse_manifest(changed, "manifest.toml")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: it.update(colour="red"), "colour: unknown key"),
        (lambda it: it["inputs"].update(rotate=1), "inputs.rotate: unknown key"),
        (lambda it: it.pop("origin"), "origin: missing"),
        (lambda it: it.update(outputs=["heads", "distance"]), "'distance' is unknown"),
        (
            lambda it: it.update(outputs=["heads", "heads"]),
            "outputs: a list is not accepted; .* different",
        ),
        (lambda it: it["files"][0].update(sha256="ab"), "sha256: 'ab' is not accepted"),
        (
            lambda it: it["files"][0].update(file="../pnet.onnx"),
            "file: '../pnet.onnx' is not accepted",
        ),
        (lambda it: it["thresholds"].update(output="high"), "thresholds.output: .* a number"),
        (lambda it: it["thresholds"].update(output=float("nan")), "thresholds.output: nan"),
        (lambda it: it["files"][0].update(shape=[1, 3, -1, 2]), "4 whole numbers"),
        (lambda it: it["inputs"].update(layout="nhwc"), "'nhwc' is unknown; .* accepted: nchw"),
        (lambda it: it.update(files=[]), "one table .* at least"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(change, says):
    changed = said()
    change(changed)
    with pytest.raises(ModelRefused, match=says) as caught:
        parse_manifest(changed, "manifest.toml")
    assert str(caught.value).startswith("manifest.toml: ")


@pytest.mark.parametrize("raw", [b"name = ", b"\xff\xfe", b"# " + b"x" * 70_000])
def test_what_is_no_manifest_is_refused(tmp_path, raw):
    path = tmp_path / "manifest.toml"
    path.write_bytes(raw)
    with pytest.raises(ModelRefused):
        read_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="cannot be read"):
        read_manifest(tmp_path / "manifest.toml")
