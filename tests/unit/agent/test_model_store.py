import os
import shutil
import subprocess
import sys

import pytest

from ketang_agent.remote import model_store as store_of
from ketang_agent.remote.model_store import Chosen, Standing
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
    assert store_of.standing(store) == Standing()
    assert store_of.in_use(store, "mtcnn").folder == SHIPPED.folder


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


def test_the_old_one_stays_until_the_new_one_has_committed(store):
    store_of.activate(store, chosen("2"))
    store_of.keep(store)
    assert store_of.activate(store, chosen("3")) == Standing(
        chosen("3"), chosen("2"), on_trial=True
    )
    assert versions(store) == ["2", "3"]
    assert store_of.in_use(store, "mtcnn").manifest.version == "3"
    assert store_of.keep(store) == Standing(chosen("3"))
    assert versions(store) == ["3"]


def test_a_model_that_did_harm_goes_and_the_one_before_is_in_use_again(store):
    store_of.activate(store, chosen("2"))
    store_of.keep(store)
    store_of.activate(store, chosen("3"))
    assert store_of.forget(store) == Standing(chosen("2"))
    assert versions(store) == ["2"]
    assert store_of.in_use(store, "mtcnn").manifest.version == "2"


def test_the_way_back_from_a_first_model_is_the_shipped_one(store):
    store_of.activate(store, chosen("2"))
    store_of.forget(store)
    assert store_of.in_use(store, "mtcnn").folder == SHIPPED.folder


def test_a_second_trial_in_a_row_goes_back_to_what_had_committed(store):
    store_of.activate(store, chosen("2"))
    assert store_of.activate(store, chosen("3")) == Standing(chosen("3"), None, on_trial=True)
    assert store_of.forget(store) == Standing()


def test_every_step_twice_is_as_once(store):
    for _ in range(2):
        store_of.activate(store, chosen("2"))
    assert store_of.standing(store).before is None
    for _ in range(2):
        store_of.keep(store)
    for _ in range(2):
        store_of.forget(store)
    assert store_of.standing(store) == Standing(chosen("2"))


def test_what_was_damaged_since_is_not_activated_and_is_laid_anew(store, packed):
    (store / "mtcnn" / "2" / "pnet.onnx").write_bytes(b"x")
    with pytest.raises(ModelRefused):
        store_of.activate(store, chosen("2"))
    assert store_of.standing(store) == Standing()
    store_of.lay(store, packed("2"), chosen("2"), fine)
    assert store_of.activate(store, chosen("2")).current == chosen("2")


def test_tidying_keeps_what_is_in_use_on_trial_or_wanted(store, packed):
    store_of.lay(store, packed("4"), chosen("4"), fine)
    (store / "mtcnn" / ".draft-5").mkdir()
    store_of.activate(store, chosen("2"))
    store_of.tidy(store, [chosen("4")])
    assert versions(store) == ["2", "4"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"current": 3}', b'{"current": ["a"]}'])
def test_a_damaged_pointer_is_as_none(store, raw):
    (store / "current.json").write_bytes(raw)
    assert store_of.standing(store) == Standing()


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
model_store.activate(store, wanted)
model_store.keep(store)
"""


@pytest.mark.slow
def test_killed_at_any_step_one_whole_model_is_in_use_and_the_next_run_ends_well(tmp_path, packed):
    base = tmp_path / "base"
    store_of.lay(base, packed("2"), chosen("2"), fine)
    store_of.activate(base, chosen("2"))
    store_of.keep(base)
    third, at, seen = packed("3"), 0, set()
    while True:
        store = tmp_path / f"at-{at}"
        shutil.copytree(base, store)
        code = run_killed(store, third, at)
        now = store_of.in_use(store, "mtcnn")  # opens, and every hash is right
        seen.add(now.manifest.version)
        if store_of.standing(store).on_trial:
            assert store_of.found(store, chosen("2"))
        assert run_killed(store, third, 10_000) == 0
        assert store_of.standing(store) == Standing(chosen("3"))
        store_of.tidy(store)
        assert versions(store) == ["3"]
        shutil.rmtree(store)
        if code == 0:
            break
        at += 1
    assert at > 10
    assert seen == {"2", "3"}


def run_killed(store, packed, at):
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(store), str(packed), SHIPPED.digest, str(at)],
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ).returncode


def test_the_supervisor_may_ask_which_model_is_in_use():
    code = (
        "import sys, ketang_agent.remote.model_store;"
        "print([name for name in ('numpy', 'cryptography', 'tuf', 'pydantic')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
