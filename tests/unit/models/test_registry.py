import shutil
import subprocess
import sys

import pytest

from ketang_models import registry
from ketang_models.manifest import ModelRefused


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(registry.SHIPPED / "mtcnn", tmp_path / "mtcnn")
    return registry.open_model(tmp_path / "mtcnn")


@pytest.mark.parametrize("name", registry.shipped_names())
def test_every_shipped_model_is_what_its_manifest_says(name):
    registry.verify(registry.shipped(name))


@pytest.mark.parametrize("name", registry.shipped_names())
def test_every_shipped_model_has_its_licence_and_a_card_that_names_its_digest(name):
    model = registry.shipped(name)
    assert (model.folder / model.manifest.origin.licence_file).is_file()
    card = (model.folder / "CARD.md").read_text("utf-8")
    assert model.digest in card
    for heading in ("Source", "Licence", "Training data", "Must not be used for", "Measured"):
        assert f"\n## {heading}\n" in card


def test_one_changed_bit_is_refused(copied):
    path = copied.folder / "onet.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ModelRefused, match=r"sha256 .* the manifest says"):
        registry.verify(copied)


def test_a_missing_file_is_refused(copied):
    (copied.folder / "rnet.onnx").unlink()
    with pytest.raises(ModelRefused, match="cannot be read"):
        registry.verify(copied)


def test_a_file_too_large_is_refused_without_reading_it_whole(copied, monkeypatch):
    monkeypatch.setattr(registry, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(ModelRefused, match="larger than 1000 bytes"):
        registry.verify(copied)


def test_an_unknown_model_is_refused_with_the_names_there_are():
    with pytest.raises(ModelRefused, match="there are: mtcnn"):
        registry.shipped("../mtcnn")


def test_the_registry_needs_nothing_but_the_standard_library():
    code = (
        "import sys, ketang_models.registry as it; it.verify(it.shipped('mtcnn'));"
        "print([name for name in ('numpy', 'cv2', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
