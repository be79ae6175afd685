"""``ketang provision init``: a region appears whole or not at all, and never changes again."""

import hashlib
import json
import math
import re
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ketang_center import settings
from ketang_cli.main import main
from ketang_contract.errors import BadInput
from ketang_contract.trust import Purpose, accept
from ketang_provisioning import keys, region, region_files
from ketang_provisioning.certificates import Authority, load_certificate
from ketang_provisioning.codes import read_key

NOW = datetime.now(UTC)
PLAN = region.Plan(
    region_name="青川市", center_hosts=("center.example", "10.1.0.1"), broker_hosts=("b.example",)
)
INIT = ["--region-name", "青川市", "--center-host", "center.example", "--broker-host", "b.example"]
LOCKED = {
    "holder-1/root.key": "holder-1",
    "holder-2/root.key": "holder-2",
    "holder-3/root.key": "holder-3",
    "offline/servers-ca.key": "servers-ca",
    "offline/config-1.key": "config-1",
    "offline/config-2.key": "config-2",
    "offline/filing.key": "filing",
    "offline/tuf-root.key": "updates-root",
    "offline/tuf-targets.key": "updates-targets",
}
OPEN = {
    "center/center.key",
    "center/kit.key",
    "center/command.key",
    "center/tuf-snapshot.key",
    "center/tuf-timestamp.key",
    "broker/broker.key",
}


def init(out, *more):
    return main(["provision", "init", "--out", str(out), *INIT, *more])


def content(folder):
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def passphrases():
    return region.new_passphrases()


@pytest.fixture(scope="module")
def files(passphrases):
    return {**region.make(PLAN, passphrases, now=NOW), region_files.READ_ME: b"read me\n"}


@pytest.fixture
def made(tmp_path, files):
    region_files.put(tmp_path / "region", files, announce=lambda: None)
    return tmp_path / "region"


def test_every_file_is_its_owners_alone_and_so_is_every_folder(made):
    for path in (made, *made.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_every_key_that_is_kept_off_line_is_really_encrypted_with_its_own_passphrase(
    made, passphrases
):
    for name, whose in LOCKED.items():
        raw = (made / name).read_bytes()
        assert b"ENCRYPTED" in raw
        for other, passphrase in passphrases.items():
            if other == whose:
                assert load_pem_private_key(raw, passphrase.encode())
            else:
                with pytest.raises(BadInput, match="wrong passphrase"):
                    keys.load_private(made / name, passphrase.encode())
    unlocked = {
        path.relative_to(made).as_posix()
        for path in made.rglob("*.key")
        if b"ENCRYPTED" not in path.read_bytes()
    }
    assert unlocked == OPEN | {"center/code.key"}
    for name in OPEN:
        assert keys.load_private(made / name, None)


def test_no_passphrase_of_a_person_is_in_any_file(made, passphrases):
    for path in made.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert not [one for one in passphrases.values() if one.encode() in raw]


def test_a_made_passphrase_has_a_hundred_bits_and_none_comes_twice():
    said = [region.new_passphrase() for _ in range(200)]
    assert len(set(said)) == 200
    letters = set("".join(said)) - {"-"}
    assert len(letters) == 32
    assert math.log2(len(letters)) * len(said[0].replace("-", "")) >= 100


def test_what_goes_onto_devices_is_signed_by_the_roots_of_the_fingerprint(made):
    told = {
        "fingerprint": (made / "installer/root.fingerprint").read_text().strip(),
        "now_s": int(NOW.timestamp()),
    }
    held = accept((made / "installer/trust.json").read_bytes(), **told)
    assert (held.version, held.threshold, len(held.roots)) == (1, 2, 3)
    assert held.certificates_pem(Purpose.SERVERS_CA, told["now_s"]) == (
        (made / "center/servers-ca.pem").read_text()
    )
    assert held.certificates_pem(Purpose.CLIENTS_CA, told["now_s"]) == (
        (made / "broker/clients-ca.pem").read_text()
    )
    counts = {one: len(held.keys_for(one, told["now_s"])) for one in Purpose}
    assert counts == {
        Purpose.CLIENTS_CA: 0,
        Purpose.SERVERS_CA: 0,
        Purpose.CONFIG: 2,
        Purpose.FILING: 1,
        Purpose.COMMAND: 1,
        Purpose.UPDATES: 1,
        Purpose.KIT: 1,
    }
    for folder in ("center", "offline"):
        assert (made / folder / "trust.json").read_bytes() == (
            (made / "installer/trust.json").read_bytes()
        )


def test_the_trusted_keys_are_the_ones_in_the_files(made, passphrases):
    held = accept(
        (made / "center/trust.json").read_bytes(),
        fingerprint=(made / "installer/root.fingerprint").read_text().strip(),
        now_s=int(NOW.timestamp()),
    )
    named = {one.key_id for one in (*held.roots, *held.keys)}
    found = set()
    for path in made.rglob("*.key"):
        name = path.relative_to(made).as_posix()
        if name in {"center/code.key", "center/clients-ca.key"}:
            continue
        whose = LOCKED.get(name)
        key = keys.load_private(path, passphrases[whose].encode() if whose else None)
        found.add(keys.key_id(key.public_key()))
    assert named < found
    assert len(named) == 3 + 6


def test_no_secret_is_in_the_folder_for_devices(made):
    assert {path.name for path in (made / "installer").iterdir()} == {
        "root.fingerprint",
        "trust.json",
    }


def test_the_centre_can_open_what_it_needs_with_the_paths_of_its_settings(made):
    center = made / "center"
    said = tomllib.loads((center / "center.toml").read_text("utf-8"))
    enrolment = said["enrolment"]
    assert list(enrolment) == [
        "host",
        "port",
        "certificate",
        "key",
        "clients_ca",
        "clients_ca_key",
        "clients_ca_passphrase_file",
        "code_key",
        "kit_key",
        "trust",
        "fingerprint",
        "url",
        "broker_host",
        "broker_port",
        "crl",
    ]
    shared = "/var/lib/ketang-broker"
    assert enrolment["crl"] == f"{shared}/clients.crl"
    assert said["broker_refusals"] == f"{shared}/refusals.jsonl"
    assert (enrolment["port"], enrolment["url"]) == (8443, "https://center.example:8443")
    assert enrolment["fingerprint"] == (made / "installer/root.fingerprint").read_text().strip()
    passphrase = (center / enrolment["clients_ca_passphrase_file"]).read_bytes().strip()
    assert Authority.load(
        center / enrolment["clients_ca"], center / enrolment["clients_ca_key"], passphrase
    )
    assert len(read_key(center / enrolment["code_key"])) == 32
    assert keys.load_private(center / enrolment["kit_key"], None)
    for name in ("ca", "certificate", "key"):
        assert (center / said[name]).is_file()


def test_an_address_of_ipv6_stands_in_brackets_and_is_listened_on():
    said = tomllib.loads(region_files.center_toml(["fd00::1"], "fd00::2", "f" * 64))
    assert said["enrolment"]["url"] == "https://[fd00::1]:8443"
    assert ip_address(said["enrolment"]["host"]).version == 6


def test_the_settings_name_a_broker_whose_name_has_quotes_in_nothing(made):
    assert tomllib.loads(region_files.center_toml(["a"], 'x"y\\z', "f"))["broker_host"] == 'x"y\\z'


class Killed(BaseException):
    """As a power cut: nobody catches it."""


@pytest.mark.parametrize("at", range(-1, 40))
def test_a_run_that_dies_at_any_file_leaves_nothing_and_the_next_one_makes_all(tmp_path, files, at):
    out, written = tmp_path / "region", []

    def write(path, raw):
        if len(written) == at:
            (path.with_name(f".{path.name}.partial")).write_bytes(raw[: len(raw) // 2])
            raise Killed
        keys.write_private(path, raw)
        written.append(path)

    def announce():
        if at >= 0:
            return
        raise Killed

    died = False
    try:
        region_files.put(out, files, announce=announce, write=write)
    except Killed:
        died = True
    assert died == (at < len(files))
    assert out.exists() is not died
    if died:
        assert not region_files.is_finished(out)
        region_files.put(out, files, announce=lambda: None)
    assert region_files.is_finished(out)
    assert {name: raw for name, (raw, _) in content(out).items()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["region"]


def test_a_process_killed_on_the_way_leaves_no_region(tmp_path):
    out = tmp_path / "region"
    asked = (
        "import os, sys; from ketang_provisioning import region_files; "
        "from ketang_cli.main import main; n = 0\n"
        "real = os.fsync\n"
        "def fsync(handle):\n"
        "    global n; n += 1\n"
        "    if n == 31: os._exit(9)\n"
        "    real(handle)\n"
        "os.fsync = fsync\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", asked, "provision", "init", "--out", str(out), *INIT]
    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 9
    assert not out.exists()
    assert (tmp_path / "region.partial").exists()
    assert init(out) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["region"]


def test_running_it_again_changes_not_one_byte_and_says_so(tmp_path, capsys):
    out = tmp_path / "region"
    assert init(out, "--lang", "en") == 0
    before = content(out)
    capsys.readouterr()
    assert init(out, "--lang", "en") == 0
    assert content(out) == before
    said = capsys.readouterr().out
    assert "nothing changed" in said
    assert not re.search(r"\b(?:[0-9a-z]{4}-){5}[0-9a-z]{4}\b", said)


def test_what_is_printed_is_in_the_folder_without_the_passphrases(tmp_path, capsys):
    out = tmp_path / "region"
    assert init(out, "--lang", "en", "--holders", "Li", "Wang", "Zhao") == 0
    said = capsys.readouterr().out
    read_me = (out / "READ-ME.txt").read_text("utf-8")
    assert said.startswith(read_me)
    for told in ("holder-2/   a memory stick of its own, to Wang", "installer/", "Fingerprint"):
        assert told in read_me
    printed = re.findall(r"^  ([\w-]+) +((?:[0-9a-z]{4}-){5}[0-9a-z]{4})$", said, re.MULTILINE)
    assert [name for name, _ in printed] == list(region.PASSPHRASES)
    assert keys.load_private(out / "holder-2/root.key", dict(printed)["holder-2"].encode())


def test_it_speaks_the_language_of_the_machine_unless_told(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert init(tmp_path / "one") == 0
    assert "根密钥指纹" in capsys.readouterr().out
    assert init(tmp_path / "two", "--lang", "en") == 0
    assert "Fingerprint of the roots" in capsys.readouterr().out


def test_passphrases_of_ones_own_are_taken_from_a_file_and_not_printed(tmp_path, capsys):
    own = {name: f"correct horse battery {name}" for name in region.PASSPHRASES}
    path = tmp_path / "own.toml"
    path.write_text("".join(f"{name} = {json.dumps(one)}\n" for name, one in own.items()))
    assert init(tmp_path / "region", "--passphrases", str(path)) == 0
    assert "correct horse" not in capsys.readouterr().out
    assert keys.load_private(
        tmp_path / "region/offline/filing.key", b"correct horse battery filing"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filing": "short"}, "filing"),
        ({"filing": "correct horse battery config-1"}, "different"),
        ({"more": "correct horse battery more"}, "more"),
        ({"filing": None}, "filing"),
    ],
)
def test_weak_or_missing_passphrases_are_refused_before_anything_is_made(
    tmp_path, capsys, change, told
):
    own = {name: f"correct horse battery {name}" for name in region.PASSPHRASES} | change
    path = tmp_path / "own.toml"
    path.write_text("".join(f'{name} = "{one}"\n' for name, one in own.items() if one))
    assert init(tmp_path / "region", "--passphrases", str(path)) == 2
    assert told in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["own.toml"]


@pytest.mark.parametrize(
    "fields",
    [
        {"region_name": ""},
        {"region_name": "x" * 41},
        {"center_hosts": ()},
        {"broker_hosts": ("a b",)},
        {"root_holders": ("a", "a", "b")},
        {"root_holders": ("a", "b")},
        {"config_holders": ("a", "a")},
        {"approver": ""},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_carried_out_is_refused(fields, passphrases):
    told = {"region_name": "A", "center_hosts": ("c",), "broker_hosts": ("b",), **fields}
    with pytest.raises(BadInput):
        region.make(region.Plan(**told), passphrases, now=NOW)


def test_another_folder_in_the_way_is_never_touched(tmp_path, capsys):
    out = tmp_path / "region"
    out.mkdir()
    assert init(out) == 2
    out.rmdir()
    mine = tmp_path / "region.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    assert init(out) == 2
    assert "other things" in capsys.readouterr().err
    assert mine.read_text() == "years of work"
    mine.unlink()
    mine.parent.rmdir()
    (tmp_path / "region.partial").symlink_to(tmp_path)
    assert init(out) == 2


def test_a_server_certificate_is_renewed_off_line_and_nothing_is_overwritten(
    made, tmp_path, passphrases, capsys
):
    secret = tmp_path / "secret"
    secret.write_text(passphrases["servers-ca"] + "\n")
    command = ["provision", "server-certificate", "--host", "b.example", "--host", "::1"]
    command += ["--authority", str(made / "offline/servers-ca.pem"), "--days", "100"]
    command += ["--passphrase-file", str(secret), "--out", str(tmp_path / "new")]
    assert main(command) == 0
    one = load_certificate(tmp_path / "new/broker.pem")
    assert one.not_valid_after_utc - NOW < timedelta(days=101)
    one.verify_directly_issued_by(load_certificate(made / "center/servers-ca.pem"))
    digest = hashlib.sha256((tmp_path / "new/broker.key").read_bytes()).digest()
    capsys.readouterr()
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert hashlib.sha256((tmp_path / "new/broker.key").read_bytes()).digest() == digest
    secret.write_text("wrong\n")
    assert main([*command[:-1], str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


def test_a_services_certificate_is_renewed_at_the_centre(made, tmp_path):
    command = ["provision", "client-certificate", "--out", str(tmp_path / "new")]
    command += ["--authority", str(made / "center/clients-ca.pem")]
    command += ["--passphrase-file", str(made / "center/clients-ca.passphrase")]
    assert main(command) == 0
    one = load_certificate(tmp_path / "new/center_ingest.pem")
    one.verify_directly_issued_by(load_certificate(made / "center/clients-ca.pem"))
    key = keys.load_private(tmp_path / "new/center_ingest.pem", None)
    assert key.public_key() == one.public_key()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["center_ingest.pem"]


@pytest.mark.parametrize("more", [("--name", "panel-1"), ("--days", "398")], ids=str)
def test_no_device_and_no_long_life_is_certified_by_hand(made, tmp_path, more, capsys):
    command = ["provision", "client-certificate", "--out", str(tmp_path / "new"), *more]
    command += ["--authority", str(made / "center/clients-ca.pem")]
    command += ["--passphrase-file", str(made / "center/clients-ca.passphrase")]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_each_explanation_in_the_settings_stands_right_above_its_key(made):
    lines = (made / "center/center.toml").read_text("utf-8").splitlines()
    above = {line.split(" = ")[0]: lines[at - 1] for at, line in enumerate(lines) if " = " in line}
    assert "listens on IPv6" in above["host"]
    assert "accounts may write to" in above["crl"]
    assert "broker is on another machine" in above["broker_refusals"]
    assert '# web_certificate = "center.pem"' in lines
    assert '# web_key = "center.key"' in lines


def test_the_console_opens_to_others_with_the_lines_that_stand_there(made):
    text = (made / "center/center.toml").read_text("utf-8").replace("# web_", "web_")
    file = made / "center/open.toml"
    file.write_text(text.replace('web_host = "127.0.0.1"', 'web_host = "::"'))
    found = settings.read(file)
    assert found.web_certificate == file.parent / "center.pem"


@pytest.mark.parametrize(
    ("language", "guide", "empty"),
    [
        ("en", "docs/guides/center.md", "(write the name here)"),
        ("zh", "docs/guides/center.zh.md", "（请填写姓名）"),
    ],
)
def test_the_read_me_names_the_next_commands_and_nobody_who_was_not_named(language, guide, empty):
    names = region_files.Names("A", "f" * 64, PLAN.root_holders, PLAN.config_holders, PLAN.approver)
    said = region_files.read_me(names, language)
    assert re.findall(r"ketang (\w+ \w+)", said) == [
        "broker config",
        "broker run",
        "center units",
        "center account",
        "center serve",
        "broker check",
        "provision status",
    ]
    assert guide in said
    assert said.count(empty) == 9
    assert "代理" not in said
