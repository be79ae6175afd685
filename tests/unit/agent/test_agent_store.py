"""A release of the agent: made into an archive, laid out beside the others, tried, pruned."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO

import pytest
from tests.releases import PLATFORM, PYTHON, archive_of, reduced, whole, write_wheel

from ketang_agent import versions, watching
from ketang_agent.remote import agent_store, tidying
from ketang_agent.remote.agent_store import ReleaseRefused, Wanted, lay
from ketang_agent.versions import Standing
from ketang_contract import agent_release
from ketang_contract.agent_release import Fit, Manifest
from ketang_contract.errors import BadInput, Refused
from ketang_provisioning import agent_archive
from ketang_provisioning.agent_archive import House, build, read_house

VERSION = "0.2.0"
WITHOUT_ITS_SUM = b"""
{"schema": 1, "version": "0.2.0", "sha256": {},
 "fits": [{"python": "3.11", "platform": "x", "wheels": ["a-1-py3-none-any.whl"]}]}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return reduced(tmp_path_factory.mktemp("wheels"), VERSION)


def written(folder, raw):
    path = folder / "fetched"
    path.write_bytes(raw)
    return path, Wanted(VERSION, hashlib.sha256(raw).hexdigest())


def archive(folder, *wheels, **more):
    return written(folder, archive_of(wheels, VERSION, **more)[0])


def changed(raw, **files):
    """The archive with these files put in place of its own, by their names without the folder."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = files.get(name.rpartition("/")[2].partition(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def evil(folder, entries):
    """A wheel by our name, with entries that no builder would write."""
    path = folder / f"evil-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for entry in entries:
            name, content = entry if isinstance(entry, tuple) else (entry, b"")
            made.writestr(name, content)
    return path


# The archive.


def test_the_same_wheels_give_the_same_bytes_in_whatever_order(tmp_path, wheel):
    other = write_wheel(tmp_path, "other", "1.0", {"other.py": ""})
    first, _ = archive_of([wheel, other], VERSION)
    os.utime(other)
    assert archive_of([other, wheel], VERSION)[0] == first


def test_an_archive_for_two_platforms_holds_what_they_share_once(tmp_path, wheel):
    houses = [House(PYTHON, one, (wheel,)) for one in ("linux_x86_64", "linux_aarch64")]
    made = zipfile.ZipFile(BytesIO(build(houses, VERSION)))
    assert made.namelist() == ["release.json", f"wheels/{wheel.name}"]
    manifest = agent_release.read(made.read("release.json"))
    assert manifest.fit(PYTHON, "linux_aarch64").wheels == (wheel.name,)
    with pytest.raises(Refused, match="does_not_fit"):
        manifest.fit("3.9", "linux_aarch64")


def test_a_wheelhouse_is_named_for_what_it_fits_and_made_an_archive_of(tmp_path, wheel, capsys):
    folder = tmp_path / f"{PYTHON}-{PLATFORM}"
    folder.mkdir()
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    assert read_house(folder) == House(PYTHON, PLATFORM, (folder / wheel.name,))
    out = tmp_path / "0.2.0.zip"
    assert agent_archive.main([VERSION, str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out.split()[0] == hashlib.sha256(out.read_bytes()).hexdigest()
    (folder / "notes.txt").write_text("x")
    assert agent_archive.main([VERSION, str(folder), "--out", str(out)]) == 2
    assert "not a wheel" in capsys.readouterr().err


def test_what_cannot_be_a_release_is_not_made_one(tmp_path, wheel):
    with pytest.raises(BadInput, match=r"holds no wheel of ketang 0\.3\.0"):
        archive_of([wheel], "0.3.0")
    with pytest.raises(BadInput, match="more than one wheel of ketang"):
        archive_of([wheel, reduced(tmp_path, "0.3.0")], VERSION)
    with pytest.raises(BadInput, match="no release can be made"):
        archive_of([wheel], VERSION, platform="Windows 11")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'{"schema": 2, "version": "0.2.0", "fits": [], "sha256": {}}',
        b'{"schema": 1, "version": "../x", "fits": [], "sha256": {}}',
        b'{"schema": 1, "version": "0.2.0", "fits": [], "sha256": {"../a.whl": "00"}}',
        b'{"schema": 1, "version": "0.2.0", "fits": [{"python": "3"}], "sha256": {}}',
        WITHOUT_ITS_SUM,
        b" " * (agent_release.MAX_RELEASE_BYTES + 1),
    ],
)
def test_a_manifest_that_is_not_sound_is_refused(said):
    with pytest.raises(Refused, match="bad_release"):
        agent_release.read(said)


def test_a_manifest_comes_back_as_it_was_written():
    name = "ketang-0.2.0-py3-none-any.whl"
    one = Manifest(VERSION, (Fit("3.11", "linux_x86_64", (name,)),), {name: "a" * 64})
    assert agent_release.read(agent_release.write(one)) == one
    assert agent_release.target(VERSION).path == "agent/ketang/0.2.0.zip"


# Laying out.


def test_a_release_is_laid_out_tried_and_runs_from_its_own_folder(tmp_path, wheel):
    raw, wanted = archive(tmp_path, wheel)
    home = lay(tmp_path / "versions", raw, wanted)
    assert home == tmp_path / "versions" / VERSION
    assert versions.is_laid(tmp_path / "versions", VERSION, wanted.sha256)
    said = subprocess.run(
        [versions.python_of(home), "-c", "import ketang_agent; print(ketang_agent.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert said.startswith(str(home))
    raw.unlink()
    assert lay(tmp_path / "versions", raw, wanted) == home, "it is there: nothing is read anew"
    assert {one.name for one in (tmp_path / "versions").iterdir()} == {VERSION}


def test_the_child_says_in_one_line_how_it_went(tmp_path, wheel):
    raw, wanted = archive(tmp_path, wheel)
    words = [sys.executable, "-m", "ketang_agent.remote.agent_store", str(tmp_path / "versions")]
    words += [str(raw), VERSION]
    ran = subprocess.run([*words, "0" * 64], capture_output=True, timeout=60, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["why"]) == (1, "wrong_content")
    ran = subprocess.run([*words, wanted.sha256], capture_output=True, timeout=60, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["version"]) == (0, VERSION)


def test_a_release_for_other_devices_is_refused_before_anything_is_unpacked(tmp_path, wheel):
    raw, wanted = archive(tmp_path, wheel, platform="win_arm64")
    with pytest.raises(ReleaseRefused, match="does_not_fit"):
        lay(tmp_path / "versions", raw, wanted)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("ketang_agent/sound.py", "print('0.9.9')"),
        ("ketang_agent/sound.py", "import no_such_module"),
        ("ketang_cli/main.py", "raise SystemExit(3)"),
        ("ketang_cli/main.py", "while True: pass"),
    ],
    ids=["says another version", "lacks a library", "ends", "never answers"],
)
def test_a_release_that_does_not_run_here_is_never_laid_out(tmp_path, wheel, part, content):
    with zipfile.ZipFile(wheel) as opened:
        files = {name: opened.read(name) for name in opened.namelist() if "-info/" not in name}
    made = write_wheel(tmp_path, "ketang", VERSION, {**files, part: content})
    raw, wanted = archive(tmp_path, made)
    with pytest.raises(ReleaseRefused, match="does_not_run"):
        lay(tmp_path / "versions", raw, wanted, check_s=5)
    assert list((tmp_path / "versions").iterdir()) == []


@pytest.mark.parametrize(
    "entries",
    [
        ["../outside.py"],
        ["/etc/outside.py"],
        ["a/../../outside.py"],
        ["a\\..\\outside.py"],
        ["c:/outside.py"],
        ["."],
        ["evil.data/purelib/../../../outside.py"],
        ["ketang_agent/__init__.py"],
        ["ketang_agent"],
        ["a", "a/b"],
    ],
)
def test_no_name_in_a_wheel_leads_out_of_its_folder_or_over_another_file(tmp_path, wheel, entries):
    raw, wanted = archive(tmp_path, wheel, evil(tmp_path, entries))
    with pytest.raises(ReleaseRefused, match="bad_release"):
        lay(tmp_path / "versions", raw, wanted)
    assert list((tmp_path / "versions").iterdir()) == []
    assert not list(tmp_path.rglob("outside.py"))


def test_a_link_in_a_wheel_is_refused(tmp_path, wheel):
    link = zipfile.ZipInfo("evil.py")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    raw, wanted = archive(tmp_path, wheel, evil(tmp_path, [(link, b"/etc/passwd")]))
    with pytest.raises(ReleaseRefused, match="a link"):
        lay(tmp_path / "versions", raw, wanted)


@pytest.mark.parametrize(("files", "size"), [(3, 1 << 30), (1000, 1000)])
def test_what_a_wheel_unpacks_to_is_capped_in_number_and_size(tmp_path, wheel, files, size):
    with pytest.raises(ReleaseRefused, match="too_large"):
        agent_store._unpack(wheel, tmp_path / "out", agent_store._Budget(files, size))


def test_a_disk_without_room_is_left_to_the_records(tmp_path, wheel, monkeypatch):
    raw, wanted = archive(tmp_path, wheel)
    usage = shutil.disk_usage(tmp_path)._replace(free=agent_store.ROOM_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ReleaseRefused, match="no_room"):
        lay(tmp_path / "versions", raw, wanted)


def test_a_wheel_that_is_not_what_its_sum_says_is_refused(tmp_path, wheel):
    made, _ = archive_of([wheel], VERSION)
    raw, wanted = written(tmp_path, changed(made, **{"ketang-0": b"another"}))
    with pytest.raises(ReleaseRefused, match="wrong_content"):
        lay(tmp_path / "versions", raw, wanted)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"x" * 1000])
def test_what_is_no_archive_is_refused(tmp_path, content):
    raw, wanted = written(tmp_path, content)
    with pytest.raises(ReleaseRefused, match="bad_release"):
        lay(tmp_path / "versions", raw, wanted)


def test_an_archive_without_its_lists_or_of_another_version_is_refused(tmp_path, wheel):
    made, _ = archive_of([wheel], VERSION)
    for files in ({"release": None}, {"ketang-0": None}):
        raw, wanted = written(tmp_path, changed(made, **files))
        with pytest.raises(ReleaseRefused, match="bad_release"):
            lay(tmp_path / "versions", raw, wanted)
    raw, wanted = written(tmp_path, made)
    with pytest.raises(ReleaseRefused, match=r"it is 0\.2\.0, not 0\.3\.0"):
        lay(tmp_path / "versions", raw, replace(wanted, version="0.3.0"))


def test_a_release_that_runs_is_not_replaced_by_another_archive_of_its_version(tmp_path, wheel):
    folder = tmp_path / "versions"
    lay(folder, *archive(tmp_path, wheel))
    used = Standing(installed="0.1.0", current=VERSION)
    versions.keep_standing(folder, used)
    other = write_wheel(tmp_path, "other", "1.0", {"other.py": ""})
    with pytest.raises(ReleaseRefused, match="version_reused"):
        lay(folder, *archive(tmp_path, wheel, other))
    versions.keep_standing(folder, watching.lose(used))
    assert lay(folder, *archive(tmp_path, wheel, other)).name == VERSION


def test_pruning_keeps_what_is_named_what_runs_and_what_is_gone_back_to(tmp_path):
    for name in ("0.2.0", "0.3.0", "0.4.0", "0.5.0", ".draft-0.6.0", ".gone-0.1.0"):
        (tmp_path / name).mkdir()
    versions.keep_standing(tmp_path, Standing(installed="0.1.0", current="0.3.0", before="0.2.0"))
    said = {"models": str(tmp_path / "none"), "versions": str(tmp_path), "kept_models": []}
    assert tidying.main([json.dumps({**said, "kept_versions": ["0.4.0"]})]) == 0
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {"0.2.0", "0.3.0", "0.4.0", "watch.json"}


@pytest.mark.slow
def test_this_project_itself_is_laid_out_and_tried_whole(tmp_path):
    raw, wanted = archive(tmp_path, *whole(tmp_path / "house", VERSION))
    home = lay(tmp_path / "versions", raw, wanted)
    agent_store.check(home, VERSION)
