import hashlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import numpy as np
import pytest
from tests.unit.models import mutations

from ketang_agent.inference import golden as child
from ketang_agent.inference.protocol import Exit
from ketang_models import archive, golden, registry
from ketang_models.manifest import ModelRefused, parse_manifest

MODEL = registry.shipped("mtcnn")


def test_every_shipped_model_answers_its_golden_pictures_in_a_child():
    for name in registry.shipped_names():
        child.check(registry.shipped(name).folder)


def test_golden_pictures_are_the_same_on_every_machine():
    made = [golden.pictures(MODEL.manifest, one).tobytes() for one in MODEL.manifest.files]
    assert hashlib.sha256(b"".join(made)).hexdigest() == (
        "0b4bc04cce0a358d6d3d88fcbf4b156a2b948e7b29a44e04161ec9b523f87a7f"
    )


def test_the_golden_child_loads_nothing_heavy_where_it_is_only_asked():
    code = (
        "import sys, ketang_agent.inference.golden;"
        "print([name for name in ('numpy', 'onnxruntime', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_of_sixty_damaged_models_none_is_activated_and_none_that_a_maker_damaged_is_wrong():
    became, worst = mutations.count(60)
    assert became["activated with the hash"] == 0
    assert became["activated, wrong"] == 0
    assert became["refused, wrong"] > 5
    assert worst < mutations.WRONG


def test_a_network_with_wrong_weights_is_refused_by_the_child(tmp_path):
    shutil.copytree(MODEL.folder, tmp_path / "m")
    path = tmp_path / "m" / "rnet.onnx"
    raw = bytearray(path.read_bytes())
    raw[200_000:200_400] = bytes(400)
    path.write_bytes(raw)
    made = mutations.as_if_published(registry.open_model(tmp_path / "m"))
    text = (tmp_path / "m" / "manifest.toml").read_text()
    for before, after in zip(MODEL.manifest.files, made.manifest.files, strict=True):
        text = text.replace(before.sha256, after.sha256)
    (tmp_path / "m" / "manifest.toml").write_text(text)
    with pytest.raises(ModelRefused, match="golden answers differ"):
        child.check(tmp_path / "m")


def test_what_is_no_network_is_refused_in_one_line(tmp_path):
    shutil.copytree(MODEL.folder, tmp_path / "m")
    text = (tmp_path / "m" / "manifest.toml").read_text()
    junk = tmp_path / "m" / "pnet.onnx"
    junk.write_bytes(b"\x08\x08\xd2\xd2junk" * 9)
    made = mutations.as_if_published(registry.open_model(tmp_path / "m"))
    text = text.replace(MODEL.manifest.files[0].sha256, made.manifest.files[0].sha256)
    (tmp_path / "m" / "manifest.toml").write_text(text)
    with pytest.raises(ModelRefused) as caught:
        child.check(tmp_path / "m")
    assert not isinstance(caught.value, child.CannotCheck)
    assert "\n" not in str(caught.value)


def test_a_check_that_takes_too_long_is_none():
    with pytest.raises(child.CannotCheck):
        child.check(MODEL.folder, timeout_s=0.01)


@pytest.mark.parametrize(
    ("more_bytes", "code"), [(0, Exit.DONE), (child.MOST_MEMORY_BYTES, Exit.MODEL_REFUSED)]
)
def test_a_model_that_takes_more_memory_than_there_is_for_it_is_refused(more_bytes, code):
    """It ends its own trial: the child is refused the memory, and nobody is killed for it."""
    program = (
        "import os, sys;"
        "from ketang_agent.inference import backend, golden;"
        "load = backend.load;"
        f"backend.load = lambda model: (bytearray({more_bytes}), load(model))[1];"
        "sys.exit(golden.main([sys.argv[1], '--parent', str(os.getppid())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(MODEL.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert bool(code) is ("MemoryError" in done.stdout)


@pytest.mark.parametrize("amiss", [np.nan, np.inf, 0.01])
def test_an_answer_that_differs_or_is_no_number_is_refused(amiss):
    answers = np.frombuffer(registry.golden_answers(MODEL), "<f4").copy()
    golden.check(MODEL, answers)
    answers[7] += amiss
    with pytest.raises(ModelRefused, match="1 of"):
        golden.check(MODEL, answers)
    with pytest.raises(ModelRefused, match=r"golden\.f32 has"):
        golden.check(MODEL, answers[:-1])


def test_changed_golden_answers_are_refused(tmp_path):
    shutil.copytree(MODEL.folder, tmp_path / "m")
    (tmp_path / "m" / "golden.f32").write_bytes(b"\0" * 18_360)
    with pytest.raises(ModelRefused, match="the manifest says"):
        registry.verify(registry.open_model(tmp_path / "m"))


# Archives


def test_the_same_model_gives_the_same_archive_and_comes_out_of_it_again(tmp_path):
    packed = archive.pack(MODEL)
    assert packed == archive.pack(MODEL)
    (tmp_path / "a.zip").write_bytes(packed)
    (tmp_path / "out").mkdir()
    assert archive.unpack(tmp_path / "a.zip", tmp_path / "out").digest == MODEL.digest
    assert (tmp_path / "out" / "CARD.md").read_bytes() == (MODEL.folder / "CARD.md").read_bytes()


def repacked(path, change):
    entries = {}
    (path / "whole.zip").write_bytes(archive.pack(MODEL))
    with zipfile.ZipFile(path / "whole.zip") as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    change(entries)
    with zipfile.ZipFile(path / "a.zip", "w") as made:
        for name, content in entries.items():
            made.writestr(name, content)
    (path / "out").mkdir()
    return path / "a.zip"


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.update({"../evil": b"x"}),
        lambda it: it.update({"/etc/evil": b"x"}),
        lambda it: it.update({"extra.py": b"x"}),
        lambda it: it.pop("manifest.toml"),
        lambda it: it.pop("CARD.md"),
        lambda it: it.update({"pnet.onnx": b"x"}),
        lambda it: it.update({"manifest.toml": b"name = "}),
    ],
)
def test_an_archive_that_is_not_exactly_a_model_is_refused(tmp_path, change):
    path = repacked(tmp_path, change)
    with pytest.raises(ModelRefused):
        archive.unpack(path, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_swells_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MODEL_BYTES", 100_000)
    path = repacked(tmp_path, lambda _: None)
    with pytest.raises(ModelRefused, match="larger than 100000 bytes"):
        archive.unpack(path, tmp_path / "out")
    assert all(one.stat().st_size <= 100_000 for one in (tmp_path / "out").iterdir())


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ModelRefused, match="not an archive"):
        archive.unpack(tmp_path / "a.zip", tmp_path)


def test_a_model_whose_file_is_damaged_is_not_packed(tmp_path):
    shutil.copytree(MODEL.folder, tmp_path / "m")
    (tmp_path / "m" / "pnet.onnx").write_bytes(b"x")
    with pytest.raises(ModelRefused):
        archive.pack(registry.open_model(tmp_path / "m"))


def test_a_manifest_may_not_tolerate_what_would_hide_a_changed_weight():
    said = tomllib.loads((MODEL.folder / "manifest.toml").read_text("utf-8"))
    said["golden"]["relative"] = 0.5
    with pytest.raises(ModelRefused, match=r"golden\.relative: 0\.5 is not accepted"):
        parse_manifest(said, "manifest.toml")
