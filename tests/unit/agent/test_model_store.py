import os
import shutil
import subprocess
import sys

import pytest

from ketang_agent.remote import model_store as store_of
from ketang_agent.remote.model_store import Chosen
from ketang_models import archive, registry
from ketang_models.manifest import ModelRefused

SHIPPED = registry.shipped("mtcnn")


def chosen(version):
    return Chosen("mtcnn", version, SHIPPED.digest)


@pytest.fixture
def packed(tmp_path):
    """Give a function that packs the shipped model as another version of it."""

    def pack(version):
        folder = tmp_path / f"made-{version}"
        shutil.copytree(SHIPPED.folder, folder, dirs_exist_ok=True)
        path = folder / "manifest.toml"
        text = path.read_text("utf-8").replace('version = "1.0.0"', f'version = "{version}"')
        path.write_text(text, "utf-8")
        made = tmp_path / f"{version}.zip"
        made.write_bytes(archive.pack(registry.open_model(folder)))
        return made

    return pack


@pytest.fixture
def store(tmp_path, packed):
    """Give a store with the versions 2 and 3 laid."""
    made = tmp_path / "models"
    for version in ("2", "3"):
        store_of.lay(made, packed(version), chosen(version), fine)
    return made


def fine(_):
    pass


def versions(store):
    return sorted(one.name for one in (store / "mtcnn").iterdir())


def test_a_model_appears_whole_after_its_check_and_changes_nothing_else(store):
    assert versions(store) == ["2", "3"]
    assert store_of.found(store, chosen("2")).manifest.version == "2"
    assert not list(store.glob("*.json"))


def test_a_model_that_does_not_pass_is_not_laid(tmp_path, packed):
    def bad(_):
        raise ModelRefused("golden answers differ")

    with pytest.raises(ModelRefused, match="golden"):
        store_of.lay(tmp_path / "models", packed("2"), chosen("2"), bad)
    assert versions(tmp_path / "models") == []


@pytest.mark.parametrize(
    "wanted", [chosen("9"), Chosen("other", "2", SHIPPED.digest), Chosen("mtcnn", "2", "a" * 64)]
)
def test_a_model_that_is_not_the_one_asked_for_is_not_laid(tmp_path, packed, wanted):
    with pytest.raises(ModelRefused, match="not the model"):
        store_of.lay(tmp_path / "models", packed("2"), wanted, fine)
    assert not list((tmp_path / "models").glob("*/[!.]*"))


@pytest.mark.parametrize(("name", "version"), [("..", "1"), ("mtcnn", ".."), ("mtcnn", "a/b")])
def test_no_name_leads_out_of_the_store(tmp_path, name, version):
    with pytest.raises(ModelRefused, match="not a model's name"):
        store_of.place_of(tmp_path, name, version)


def test_what_was_damaged_since_is_not_found_and_is_laid_anew(store, packed):
    (store / "mtcnn" / "2" / "pnet.onnx").write_bytes(b"x")
    with pytest.raises(ModelRefused):
        store_of.found(store, chosen("2"))
    store_of.lay(store, packed("2"), chosen("2"), fine)
    assert store_of.found(store, chosen("2")).manifest.version == "2"


def test_tidying_keeps_what_is_wanted_and_nothing_half_done(store, packed):
    store_of.lay(store, packed("4"), chosen("4"), fine)
    (store / "mtcnn" / ".draft-5").mkdir()
    store_of.tidy(store, [chosen("2"), chosen("4")])
    assert versions(store) == ["2", "4"]


_KILLED = """
import os, sys
from pathlib import Path
from ketang_agent.remote import model_store
from ketang_agent.remote.model_store import Chosen
store, archive, digest, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
done = 0
def hook(event, args):
    global done
    if event in {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
        flags = args[2] if event == "open" else os.O_CREAT
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT)):
            return
        done += 1
        if done > at:
            os._exit(9)
sys.addaudithook(hook)
wanted = Chosen("mtcnn", "3", digest)
model_store.lay(store, archive, wanted, lambda _: None)
model_store.tidy(store, [wanted])
"""


@pytest.mark.slow
def test_killed_at_any_step_each_model_is_whole_or_not_there_and_the_next_run_ends_well(
    tmp_path, packed
):
    base = tmp_path / "base"
    store_of.lay(base, packed("2"), chosen("2"), fine)
    third, at, seen = packed("3"), 0, set()
    while True:
        store = tmp_path / f"at-{at}"
        shutil.copytree(base, store)
        code = run_killed(store, third, at)
        whole = {one for one in versions(store) if not one.startswith(".")}
        for version in whole:
            assert store_of.found(store, chosen(version))  # every hash is right
        seen.add(frozenset(whole))
        assert run_killed(store, third, 10_000) == 0
        assert versions(store) == ["3"]
        shutil.rmtree(store)
        if code == 0:
            break
        at += 1
    assert at > 10
    assert seen == {frozenset({"2"}), frozenset({"2", "3"}), frozenset({"3"})}


def run_killed(store, packed, at):
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(store), str(packed), SHIPPED.digest, str(at)],
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ).returncode


def test_the_supervisor_may_ask_whether_a_model_is_there():
    code = (
        "import sys, ketang_agent.remote.model_store;"
        "print([name for name in ('numpy', 'cryptography', 'tuf', 'pydantic')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
