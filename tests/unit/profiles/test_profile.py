"""Device profiles: every kind has one that is right, and a wrong one is told in one plain line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ketang_profiles
from ketang_contract import tables
from ketang_contract.errors import BadInput
from ketang_contract.records import Category
from ketang_profiles import profile
from ketang_profiles.profile import ReportedBy

FOLDER = Path(ketang_profiles.__file__).parent
GOOD = """
kind = "ops_pc"
title_zh = "测试"
title_en = "Test"
reported_by = "agent"
shared = true
inference = false

[intervals_s]
usage = 60
host = 60

[foreground]
lists = ["classroom"]
whiteboard = ["OurBoard.exe"]

[caps]
spool_max_mb = 64
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path, text):
    with pytest.raises(BadInput) as caught:
        profile.read(written(tmp_path, text))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path}/mine.toml: ")
    return line.removeprefix(f"{tmp_path}/mine.toml: ")


@pytest.mark.parametrize("kind", profile.kinds())
def test_every_kind_ships_a_profile_of_its_own_name(kind):
    assert profile.shipped(kind).kind == kind


def test_there_is_no_profile_without_a_kind():
    assert {one.stem for one in FOLDER.glob("*.toml")} == set(profile.kinds())


@pytest.mark.parametrize("kind", profile.kinds())
def test_counting_people_is_off_in_every_shipped_profile(kind):
    assert profile.shipped(kind).inference is False


@pytest.mark.parametrize("kind", ["student_tablet", "teacher_pc"])
def test_a_personal_device_is_marked_personal_and_never_counts_people(kind):
    assert not profile.shipped(kind).shared
    assert "occupancy" not in profile.shipped(kind).intervals_s


@pytest.mark.parametrize("kind", ["env_sensor", "projector", "ap_switch"])
def test_what_runs_no_agent_is_reported_by_its_gateway_and_keeps_nothing(kind):
    one = profile.shipped(kind)
    assert one.reported_by is ReportedBy.GATEWAY
    assert one.caps.spool_max_mb == 0
    assert not {"usage", "occupancy", "security"} & one.intervals_s.keys()


@pytest.mark.parametrize(
    ("executable", "category"),
    [
        ("easinote.exe", Category.WHITEBOARD),
        ("hitetouchpro.exe", Category.WHITEBOARD),
        ("powerpnt.exe", Category.COURSEWARE),
        ("wpp", Category.COURSEWARE),
        ("wps.exe", Category.OFFICE),
        ("soffice.bin", Category.OFFICE),
        ("chrome.exe", Category.BROWSER),
        ("firefox-esr", Category.BROWSER),
        ("vlc", Category.MEDIA),
        ("gnome-shell", Category.SYSTEM),
    ],
)
def test_the_classroom_list_knows_what_is_used_in_classrooms(executable, category):
    assert profile.shipped("ops_pc").foreground[executable] is category


def test_the_agents_profile_is_read_without_anything_but_the_standard_library():
    code = (
        "import sys; from ketang_profiles import profile; profile.shipped('ops_pc');"
        "bad = {'pydantic', 'numpy', 'cryptography', 'difflib', 'ketang_contract.validate'};"
        "print(sorted(bad & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


def test_a_schools_own_program_is_added_to_the_list_in_any_case(tmp_path):
    one = profile.read(written(tmp_path, GOOD))
    assert one.foreground["ourboard.exe"] is Category.WHITEBOARD
    assert one.foreground["vlc"] is Category.MEDIA


def test_a_schools_own_entry_wins_over_the_list(tmp_path):
    text = GOOD.replace('whiteboard = ["OurBoard.exe"]', 'courseware = ["VLC"]')
    assert profile.read(written(tmp_path, text)).foreground["vlc"] is Category.COURSEWARE


def test_a_profile_cannot_be_changed_once_read(tmp_path):
    one = profile.read(written(tmp_path, GOOD))
    with pytest.raises(TypeError):
        one.intervals_s["usage"] = 1


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("usage = 60", "usge = 60", "intervals_s.usge: unknown key; did you mean 'usage'?"),
        (
            "usage = 60",
            "usage = 61",
            "intervals_s.usage: 61 is not accepted; accepted: a whole number from 10 to 60",
        ),
        ("usage = 60", "usage = 60.0", "intervals_s.usage: 60.0 is not accepted"),
        ("usage = 60", "usage = true", "intervals_s.usage: true is not accepted"),
        ("usage = 60", 'usage = "60"', "intervals_s.usage: '60' is not accepted"),
        ("usage = 60\n", "", "foreground: is of no use without intervals_s.usage"),
        ('"ops_pc"', '"ops-pc"', "kind: 'ops-pc' is unknown; did you mean 'ops_pc'? accepted: ifp"),
        ('kind = "ops_pc"', "kind = 3", "kind: 3 is not accepted; accepted: text in quotes"),
        ('kind = "ops_pc"\n', "", "kind: missing"),
        ("shared", "shard", "shard: unknown key; did you mean 'shared'?"),
        ("shared = true", "shared = 1", "shared: 1 is not accepted; accepted: true or false"),
        ("inference = false", "inference = true", "inference: true needs intervals_s.occupancy"),
        (
            '"agent"',
            '"gateway"',
            "cannot be reported by gateway; accepted: environment, host, inventory, network",
        ),
        ('"agent"', '"agnt"', "reported_by: 'agnt' is unknown; did you mean 'agent'?"),
        (
            '"classroom"',
            '"classrom"',
            "foreground.lists: 'classrom' is unknown; did you mean 'classroom'?",
        ),
        (
            '"OurBoard.exe"',
            '"C:\\\\board.exe"',
            "foreground.whiteboard: 'C:\\board.exe' is no base",
        ),
        ('["OurBoard.exe"]', '["x"]\nmedia = ["X"]', "foreground.media: 'X' is under whiteboard"),
        ('["OurBoard.exe"]', '"x"', "foreground.whiteboard: 'x' is not accepted; accepted: a list"),
        ("whiteboard =", "games =", "foreground.games: unknown key; accepted: lists, platform"),
        ("spool_max_mb = 64", "spool_max_mb = 4", "caps.spool_max_mb: 4 is too small"),
        (
            "spool_max_mb = 64",
            "spool_max_mb = 0",
            "0 does not fit a device that is reported by agent; accepted: 8 to 4096",
        ),
        ("spool_max_mb = 64\n", "", "caps.spool_max_mb: missing; accepted: a whole number"),
        ("[caps]", "[cap]", "cap: unknown key; did you mean 'caps'?"),
        ('kind = "ops_pc"', "kind = ops_pc", "not TOML: "),
        ('"测试"', '""', "title_zh: '' is not accepted; accepted: text in quotes, 1 to 64"),
    ],
)
def test_each_mistake_is_told_by_key_and_by_what_is_accepted(tmp_path, was, now, told):
    assert was in GOOD
    assert told in refusal(tmp_path, GOOD.replace(was, now, 1))


def test_a_personal_device_that_counts_people_is_refused(tmp_path):
    text = GOOD.replace("shared = true", "shared = false").replace(
        "usage = 60", "usage = 60\noccupancy = 300"
    )
    assert "a personal device never counts people" in refusal(tmp_path, text)


def test_a_file_that_is_no_text_or_not_there_is_told_so(tmp_path):
    path = tmp_path / "mine.toml"
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        profile.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        profile.read(path)
    path.write_bytes(b"#" * (tables.MAX_FILE_BYTES + 1))
    with pytest.raises(BadInput, match="larger than"):
        profile.read(path)
    path.write_bytes(b"a = " + b"[" * 5000)
    with pytest.raises(BadInput, match="not TOML"):
        profile.read(path)


def test_an_unknown_kind_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'lab_pc'"):
        profile.shipped("labpc")


@pytest.mark.parametrize("path", sorted((FOLDER / "foreground").glob("*.toml")))
def test_no_program_is_listed_twice(path):
    names = [one for many in tomllib.loads(path.read_text("utf-8")).values() for one in many]
    assert len(names) == len({one.lower() for one in names})
