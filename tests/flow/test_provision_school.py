"""A school before lunch, from the command line: list in, code and kit out, devices thrown out."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.unit.center.schools import registry_data

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import Book
from ketang_center.registry.database import Registry
from ketang_center.registry.values import ServiceState
from ketang_cli.main import main
from ketang_contract import trust
from ketang_contract.kit import Line, accept, normalise_code, open_kit
from ketang_provisioning import codes

LIST = """学校代码,资产编号,教室,设备类型,序列号,名称
s1,ZC-001,1 年级 1 班,交互式平板,5CG1234ABC,
s1,ZC-002,音乐室,ifp,5CG1234ABD,=cmd|' /C calc'!A0
s1,ZC-003,s1-r2,教师用机,To be filled by O.E.M.,
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A region as ``ketang provision init`` makes it."""
    folder = tmp_path_factory.mktemp("region") / "region"
    words = ["--region-name", "岚川", "--center-host", "center.example", "::1"]
    assert main(["provision", "init", "--out", str(folder), *words, "--broker-host", "::1"]) == 0
    return folder


@pytest.fixture
def region(made):
    """The same with a new centre's data: two schools, no devices."""
    data = made / "center" / "data"
    data.mkdir(exist_ok=True)
    for old in data.iterdir():
        old.unlink()
    with Registry(data / "registry.db") as registry:
        registry.load(registry_data())
    return made


@pytest.fixture
def do(region, capsys):
    """Run an action; its status, what it printed, and what it complained of."""

    def run(*words, json_=False):
        settings = str(region / "center" / "center.toml")
        extra = ["--json"] if json_ else []
        status = main(["provision", *map(str, words), "--settings", settings, *extra])
        said = capsys.readouterr()
        return status, (json.loads(said.out) if json_ else said.out), said.err

    return run


@pytest.fixture
def device_list(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(LIST.encode("gb18030"))
    return path


def audited(region):
    log = Audit(region / "center" / "data" / "audit.db")
    entries = [(one.who, one.action, one.subject, one.unit) for one in log.entries()]
    log.close()
    return entries


def test_a_list_is_checked_then_registered_and_the_same_again_is_nothing(do, region, device_list):
    _, out, _ = do("register", device_list, "--add-rooms", "--check")
    assert "3 added" in out
    assert "nothing was written" in out
    assert audited(region) == []
    status, out, _ = do("register", device_list, "--add-rooms")
    assert status == 0
    assert "3 added, 0 changed, 0 unchanged; 1 rooms made" in out
    assert "row 4: serial: 'To be filled by O.E.M.'" in out
    _, said, _ = do("register", device_list, "--add-rooms", json_=True)
    assert (said["added"], said["unchanged"], said["rooms"]) == (0, 3, 0)
    who, action, subject, unit = audited(region)[0]
    assert who.startswith("cli:")
    assert (action, subject, unit) == ("register", "list.csv: 3 rows", "s1")


def test_a_wrong_list_is_told_row_by_row_and_changes_nothing(do, region, device_list):
    status, out, err = do("register", device_list)
    assert (status, out) == (2, "")
    assert "row 3: room: the school has no room 音乐室" in err
    assert err.endswith("1 mistakes; nothing was registered\n")
    assert audited(region) == []
    status, _, err = do("register", region / "none.csv")
    assert status == 2
    assert "cannot be read" in err


def test_a_code_comes_with_kit_sheet_and_qr_and_is_kept_nowhere(do, region, device_list, tmp_path):
    do("register", device_list, "--add-rooms")
    kit, sheet, qr = tmp_path / "kit", tmp_path / "sheet.html", tmp_path / "qr.svg"
    words = ("code", "--school", "s1", "--uses", "200", "--days", "7")
    status, said, _ = do(*words, "--kit", kit, "--sheet", sheet, "--qr", qr, json_=True)
    assert status == 0
    code = normalise_code(said["code"])
    raw = open_kit(kit)
    fingerprint = (region / "installer" / "root.fingerprint").read_text().strip()
    now_s = said["expires_ms"] // 1000 - 7 * 86_400
    trusted = trust.accept(raw.trust, fingerprint=fingerprint, now_s=now_s)
    content = accept(raw, trusted, now_s)
    assert (content.code, content.school, content.url) == (code, "s1", said["url"])
    assert content.expires_s - content.made_s == 7 * 86_400
    assert said["code"] in sheet.read_text()
    assert "青禾第一小学" in sheet.read_text()
    assert qr.read_bytes().startswith(b"<?xml")
    for path in (region / "center").rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert code.encode() not in kept
            assert said["code"].encode() not in kept
    written = [*kit.iterdir(), sheet, qr]
    assert all(fingerprint.encode() not in one.read_bytes() for one in written)
    with Book(region / "center" / "data" / "enrolment.db") as book:
        (one,) = book.codes("s1")
    key = codes.read_key(region / "center" / "code.key")
    assert one.fingerprint == codes.fingerprint(code, key)
    assert one.id == said["id"]
    assert audited(region)[-1][1:] == ("code", f"{one.id}: 200 uses, 7 days", "s1")


def test_a_kit_in_a_zip_and_words_for_a_person(do, region, tmp_path):
    path = tmp_path / "kit.zip"
    status, out, _ = do("code", "--school", "s1", "--uses", "3", "--kit", path)
    assert status == 0
    assert "3 devices, until 2" in out
    assert "shown this once" in out
    assert "0 registered devices of this school are not in yet" in out
    assert path.is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--school", "s9", "--uses", "3"), "there is no school s9"),
        (("--school", "lan", "--uses", "3"), "there is no school lan"),
        (("--school", "s1", "--uses", "0"), "--uses: 0 is not accepted"),
        (("--school", "s1", "--uses", "3", "--days", "99"), "--days: 99"),
        (("--school", "s1", "--uses", "3", "--contact", "a\nb"), "--contact"),
        (("--school", "s1", "--uses", "3", "--kit", "."), "holds other things"),
        (("--school", "s1", "--uses", "3", "--sheet", "no/where.html"), "cannot be written"),
    ],
)
def test_a_wrong_wish_makes_no_code_that_counts(do, region, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("x")
    status, out, err = do("code", *words)
    assert status == 2
    assert told in err
    assert out == ""
    with Book(region / "center" / "data" / "enrolment.db") as book:
        assert book.codes() == []


def test_codes_are_listed_and_withdrawn(do, region, tmp_path):
    _, first, _ = do("code", "--school", "s1", "--uses", "5", json_=True)
    do("code", "--school", "s2", "--uses", "6", json_=True)
    _, said, _ = do("codes", json_=True)
    assert {(one["school"], one["uses"], one["state"]) for one in said["rows"]} == {
        ("s1", 5, "open"),
        ("s2", 6, "open"),
    }
    status, out, _ = do("withdraw", first["id"].upper())
    assert status == 0
    assert "is withdrawn" in out
    _, out, _ = do("codes", "--school", "s1", "--csv", tmp_path / "codes.csv")
    assert "withdrawn" in out
    assert first["code"] not in out
    rows = list(csv.DictReader((tmp_path / "codes.csv").read_text("utf-8-sig").splitlines()))
    assert [(one["id"], one["state"]) for one in rows] == [(first["id"], "withdrawn")]
    status, _, err = do("withdraw", "zzzzzz")
    assert status == 2
    assert "no code of this name" in err
    assert [one[1] for one in audited(region)] == ["code", "code", "code_withdrawn"]


def test_devices_are_listed_by_state_and_thrown_out_for_ever(do, region, device_list, tmp_path):
    do("register", device_list, "--add-rooms")
    data = region / "center" / "data"
    with Book(data / "enrolment.db") as book:
        first, second, _ = book.assets("s1")
        for one in (first, second):
            book.replace_asset(replace(one, claimed_ms=1_800_000_000_000))
    for device, why in ((first.device, "stock"), (second.device, "stolen")):
        status, out, _ = do("revoke", device, "--why", why)
        assert status == 0
        assert f"{device} is barred for ever" in out
    path = tmp_path / "devices.csv"
    _, said, _ = do("devices", "--school", "s1", "--csv", path, json_=True)
    states = {one["asset"]: (one["device"], one["state"]) for one in said["rows"]}
    assert states["ZC-001"][0].startswith("s1-zc-001-")
    assert states["ZC-001"][1] == "unclaimed"
    assert states["ZC-002"] == (second.device, "barred")
    assert states["ZC-003"] == ("s1-zc-003", "unclaimed")
    assert len(path.read_text("utf-8-sig").splitlines()) == 4
    _, out, _ = do("revoke", second.device, "--why", "stolen")
    assert "it was before" in out
    status, _, err = do("revoke", "nobody", "--why", "lost")
    assert status == 2
    assert "nobody" in err
    with Registry(data / "registry.db") as registry:
        now_ms = 4_000_000_000_000
        assert registry.service_state(second.device, now_ms) is ServiceState.LOST
        assert registry.service_state(first.device, now_ms) is ServiceState.STOCK
    assert ("revoke", f"{second.device} stolen") in [one[1:3] for one in audited(region)]


def test_what_leaves_as_a_table_is_no_formula(do, region, tmp_path):
    lines = 'school,asset,room,kind,serial\ns1,=1+1,s1-r1,ifp,"@SUM(1,2)"\n'
    (tmp_path / "list.csv").write_text(lines)
    do("register", tmp_path / "list.csv")
    do("devices", "--school", "s1", "--csv", tmp_path / "out.csv")
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text("utf-8-sig").splitlines())
    assert row["asset"] == "'=1+1"
    assert row["serial"] == "'@SUM(1,2)"


def test_a_typed_line_of_a_kit_is_a_kit_too(do, region, tmp_path):
    from ketang_provisioning.kits import new_kit, qr_text

    made = new_kit(url="https://[::1]:8443", code="0" * 12, school="s1", made_s=1, expires_s=2)
    assert open_kit(qr_text(made)) == Line("https://[::1]:8443", "0" * 12)


def test_it_runs_as_a_program_of_its_own(region, device_list):
    settings = str(region / "center" / "center.toml")
    words = ["provision", "register", str(device_list), "--add-rooms", "--settings", settings]
    done = subprocess.run(
        [sys.executable, "-m", "ketang_cli.main", *words],
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert b"3 added" in done.stdout


def test_on_another_machine_it_says_where_to_run_it(region, do):
    for old in (region / "center" / "data").iterdir():
        old.unlink()
    status, _, err = do("codes")
    assert status == 2
    assert "run this where the centre runs" in err
