"""``ketang provision trust``: a draft, carried to the holders, valid when enough have signed."""

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import CertificateBuilder, load_pem_x509_certificate

from ketang_cli.main import main
from ketang_contract.errors import BadInput
from ketang_contract.trust import Purpose, TrustRefused, accept, read_accepted
from ketang_provisioning import region, region_files, trust_changes
from ketang_provisioning.certificates import Authority, certificate_pem
from ketang_provisioning.keys import load_private, make_ec

NOW = datetime.now(UTC)
NOW_S = int(NOW.timestamp())
DAY_S = 86_400
PASSPHRASES = region.new_passphrases()
PLAN = region.Plan(region_name="A", center_hosts=("c.example",), broker_hosts=("b.example",))
FILES = {**region.make(PLAN, PASSPHRASES, now=NOW), region_files.READ_ME: b"-"}


class Desk:
    """A region, and the commands that change its trust document."""

    def __init__(self, folder):
        self.folder, self.region = folder, folder / "region"
        region_files.put(self.region, FILES, announce=lambda: None)
        self.trust = self.region / "center/trust.json"
        self.draft = folder / "draft.json"
        for name, passphrase in PASSPHRASES.items():
            (folder / f"{name}.secret").write_text(passphrase)

    def change(self, step, *more):
        files = ["--trust", str(self.trust), "--out", str(self.draft)]
        return main(["provision", "trust", step, *map(str, more), *files])

    def sign(self, key=None, secret=None, at=1, against=None):
        key = key or self.region / f"holder-{at}/root.key"
        secret = secret or self.folder / f"holder-{at}.secret"
        return main(self.sign_words(key, secret, *(against or ("--held", self.trust)), "--yes"))

    def sign_words(self, key, secret, *more):
        told = ["--key", key, "--passphrase-file", secret, *more, "--lang", "en", self.draft]
        return ["provision", "trust", "sign", *map(str, told)]

    def check(self):
        told = ["provision", "trust", "check", str(self.draft), "--held", str(self.trust)]
        return main(told)

    @property
    def held(self):
        return read_accepted(self.trust.read_bytes())

    @property
    def drafted(self):
        return trust_changes.drafted(self.draft.read_bytes())


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_draft_is_valid_when_two_of_three_have_signed_it(desk, capsys):
    assert desk.change("renew") == 0
    assert desk.check() == 1
    assert desk.sign(at=1) == 0
    assert desk.sign(at=1) == 0
    assert desk.check() == 1
    said = capsys.readouterr().out
    assert "signed by: 1 of 2 of the roots in force, 1 of 2 of the roots it names" in said
    assert "NOT valid: not_enough_signatures" in said
    assert desk.sign(at=3) == 0
    assert desk.check() == 0
    assert desk.drafted.version == 2


def test_nobody_but_a_root_holder_can_sign(desk, capsys):
    desk.change("renew")
    before = desk.draft.read_bytes()
    other = desk.region / "offline/config-1.key"
    assert desk.sign(other, desk.folder / "config-1.secret") == 2
    assert "no root of the document" in capsys.readouterr().err
    assert desk.sign(at=1, secret=desk.folder / "holder-2.secret") == 2
    assert desk.draft.read_bytes() == before


@pytest.mark.parametrize("which", ["clients", "servers"])
def test_a_new_authority_stands_beside_the_old_one_for_ninety_days(desk, which, capsys):
    new = desk.folder / "new"
    assert desk.change("rotate-ca", which, "--keys", new, "--lang", "en") == 0
    said = capsys.readouterr().out
    purpose = Purpose(f"{which}_ca")
    drafted, other = desk.drafted, {Purpose.CLIENTS_CA, Purpose.SERVERS_CA} - {purpose}
    old, added = (one for one in drafted.authorities if one.purpose is purpose)
    assert abs(old.until_s - NOW_S - 90 * DAY_S) < 3600
    assert added.certificate == (new / f"{which}-ca.pem").read_text()
    soon, later = NOW_S + 60, NOW_S + 91 * DAY_S
    assert drafted.certificates_pem(purpose, soon).count("BEGIN") == 2
    assert drafted.certificates_pem(purpose, later) == added.certificate
    for one in other:
        assert drafted.certificates_pem(one, later) == desk.held.certificates_pem(one, later)
    kept = new / f"{which}-ca.passphrase"
    assert kept.exists() is (which == "clients")
    passphrase = (
        kept.read_text().strip() if kept.exists() else said.split("shown this once:")[1].split()[0]
    )
    loaded = Authority.load(new / f"{which}-ca.pem", new / f"{which}-ca.key", passphrase.encode())
    assert "A " + which in loaded.certificate.subject.rfc4514_string()
    desk.sign(at=2)
    desk.sign(at=3)
    assert desk.check() == 0


def test_a_stolen_authority_goes_at_once(desk):
    assert (
        desk.change("rotate-ca", "clients", "--keys", desk.folder / "n", "--overlap-days", 0) == 0
    )
    assert desk.drafted.certificates_pem(Purpose.CLIENTS_CA, NOW_S + 60).count("BEGIN") == 1
    assert len(desk.drafted.authorities) == 2


def test_a_revoked_key_is_out_and_cannot_come_back(desk, capsys):
    first, second = desk.held.keys_for(Purpose.CONFIG, NOW_S)
    assert desk.change("revoke-key", first.key_id[:12], "--why", "laptop lost") == 0
    assert desk.drafted.keys_for(Purpose.CONFIG, NOW_S) == (second,)
    desk.sign(at=1)
    desk.sign(at=2)
    shutil.copy(desk.draft, desk.trust)
    desk.draft.unlink()
    capsys.readouterr()
    assert desk.change("revoke-key", first.key_id, "--why", "again") == 2
    assert "revoked already" in capsys.readouterr().err
    with pytest.raises(BadInput, match="already"):
        trust_changes.add_key(desk.held, first, NOW_S)


@pytest.mark.parametrize("key_id", ["", "0" * 64, "abc"])
def test_what_is_no_keys_id_revokes_nothing(desk, key_id, capsys):
    assert desk.change("revoke-key", key_id, "--why", "x") == 2
    assert not desk.draft.exists()
    assert "names" in capsys.readouterr().err


def test_a_root_is_not_revoked_but_replaced(desk, capsys):
    assert desk.change("revoke-key", desk.held.roots[0].key_id, "--why", "x") == 2
    assert "replace-root" in capsys.readouterr().err


def new_key(desk, name, capsys, *more):
    path = desk.folder / f"{name}.key"
    capsys.readouterr()
    assert main(["provision", "trust", "new-key", str(path), "--lang", "en", *more]) == 0
    said = capsys.readouterr().out
    if "once:" in said:
        secret = desk.folder / f"{name}.secret"
        secret.write_text(said.split("once:")[1].split()[0])
    return path


def test_a_lost_root_is_replaced_by_the_two_that_are_left(desk, capsys):
    held = desk.held
    new = new_key(desk, "new", capsys)
    change = ["--root", held.roots[0].key_id, "--public", new.with_suffix(".pub")]
    assert desk.change("replace-root", *change, "--holder", "Sun") == 0
    drafted = desk.drafted
    assert [one.holder for one in drafted.roots] == ["Sun", "holder-2", "holder-3"]
    assert drafted.fingerprint != held.fingerprint
    assert desk.sign(new, desk.folder / "new.secret") == 0
    assert desk.sign(at=2) == 0
    assert desk.check() == 1
    assert "1 of 2 of the roots in force, 2 of 2 of the roots it names" in capsys.readouterr().out
    assert desk.sign(at=3) == 0
    assert desk.check() == 0
    accepted = accept(desk.draft.read_bytes(), fingerprint="", now_s=NOW_S, held=held)
    assert accepted == drafted
    with pytest.raises(TrustRefused, match="wrong_root"):
        accept(desk.draft.read_bytes(), fingerprint=held.fingerprint, now_s=NOW_S)


def test_a_new_signing_key_is_named_beside_the_old_ones(desk, capsys):
    new = new_key(desk, "city", capsys)
    told = ["--public", new.with_suffix(".pub"), "--holder", "Sun", "--scope", "city-1"]
    assert desk.change("add-key", *told, "--purpose", "config") == 0
    (found,) = desk.drafted.keys_for(Purpose.CONFIG, NOW_S, "city-1")
    assert (found.holder, len(desk.drafted.keys_for(Purpose.CONFIG, NOW_S))) == ("Sun", 3)
    secret = (desk.folder / "city.secret").read_text().encode()
    assert load_private(new, secret)
    online = new_key(desk, "kit-2", capsys, "--online")
    assert load_private(online, None)


def test_nothing_is_overwritten(desk, capsys):
    desk.change("renew")
    before = desk.draft.read_bytes()
    assert desk.change("renew") == 2
    assert desk.draft.read_bytes() == before
    new = new_key(desk, "new", capsys)
    assert main(["provision", "trust", "new-key", str(new)]) == 2
    desk.draft.unlink()
    assert desk.change("rotate-ca", "clients", "--keys", desk.folder) == 2
    assert not desk.draft.exists()


def test_a_first_document_is_checked_against_a_fingerprint(desk, capsys):
    told = ["provision", "trust", "check", str(desk.trust)]
    assert main([*told, "--fingerprint", desk.held.fingerprint]) == 0
    assert main([*told, "--fingerprint", "0" * 64]) == 1
    assert main(told) == 2
    assert "--held" in capsys.readouterr().err


def test_a_file_that_is_no_trust_document_is_refused_in_one_line(desk, capsys):
    desk.draft.write_bytes(b"{}")
    assert desk.check() == 2
    desk.draft.write_bytes(bytes(1 << 17))
    assert desk.check() == 2
    desk.draft.unlink()
    assert desk.check() == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_a_holder_is_shown_what_changes(desk, capsys):
    first = desk.held.keys_for(Purpose.CONFIG, NOW_S)[0]
    desk.change("revoke-key", first.key_id, "--why", "laptop lost")
    capsys.readouterr()
    desk.sign(at=1)
    said = capsys.readouterr().out
    assert f"comes    revoked key {first.key_id[:16]}" in said
    assert "laptop lost" in said
    assert "changes  document: version 2" in said
    assert "threshold" not in said


def test_a_holder_is_shown_what_goes_first_of_all(desk, capsys):
    held = desk.held
    gone_root, gone_key = held.roots[2], held.keys[0]
    changed = replace(
        held,
        version=2,
        roots=held.roots[:2],
        keys=held.keys[1:],
        authorities=held.authorities[1:],
    )
    desk.draft.write_bytes(trust_changes.draft(changed))
    capsys.readouterr()
    assert desk.sign(at=1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"GOES     root {gone_root.key_id[:16]}: holder-3"
    assert lines[1].startswith(f"GOES     key for config {gone_key.key_id[:16]}")
    assert lines[2].startswith("GOES     authority for clients")
    zh = list(trust_changes.differences(held, changed, "zh"))
    assert zh[0] == f"去除  根密钥 {gone_root.key_id[:16]}: holder-3"


def test_another_authority_under_the_same_name_and_number_is_shown(desk):
    """Whoever drafts makes the certificate, so its name and number prove nothing."""
    old = desk.held.authorities[0]
    before = load_pem_x509_certificate(old.certificate.encode())
    key = make_ec()
    twin = (
        CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(before.subject)
        .public_key(key.public_key())
        .serial_number(before.serial_number)
        .not_valid_before(before.not_valid_before_utc)
        .not_valid_after(before.not_valid_after_utc)
        .sign(key, SHA256())
    )
    other = replace(old, certificate=certificate_pem(twin).decode())
    changed = replace(desk.held, version=2, authorities=(other, *desk.held.authorities[1:]))
    said = list(trust_changes.differences(desk.held, changed))
    assert [one[:4] for one in said] == ["GOES", "chan", "come"]


def test_a_name_can_neither_break_the_line_nor_steer_the_terminal(desk):
    root = replace(desk.held.roots[0], holder="Li\n\x1b[2Kcomes  nothing")
    changed = replace(desk.held, version=2, roots=(root, *desk.held.roots[1:]))
    for line in trust_changes.differences(desk.held, changed):
        assert line.isprintable()


def test_nobody_signs_blind(desk, capsys):
    desk.change("renew")
    before = desk.draft.read_bytes()
    key, secret = desk.region / "holder-1/root.key", desk.folder / "holder-1.secret"
    with pytest.raises(SystemExit) as refused:
        main(desk.sign_words(key, secret, "--yes"))
    assert refused.value.code == 2
    assert "--held" in capsys.readouterr().err
    assert desk.sign(against=["--first"]) == 2
    assert "name --held" in capsys.readouterr().err
    assert desk.sign(against=["--held", desk.draft]) == 2
    assert "not newer" in capsys.readouterr().err
    assert desk.draft.read_bytes() == before


@pytest.mark.parametrize(("typed", "signs"), [("yes\n", True), ("y\n", False), ("", False)])
def test_a_holder_types_yes_after_what_changes_was_shown(desk, typed, signs):
    desk.change("renew")
    before = desk.draft.read_bytes()
    key, secret = desk.region / "holder-1/root.key", desk.folder / "holder-1.secret"
    words = desk.sign_words(key, secret, "--held", desk.trust)
    asked = subprocess.run(
        [sys.executable, "-m", "ketang_cli.main", *words],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (asked.returncode == 0) is signs
    assert (desk.draft.read_bytes() != before) is signs
    assert asked.stdout.index("changes  document") < asked.stdout.index("Type yes")
    assert "Traceback" not in asked.stderr


def test_a_draft_tells_the_whole_command_to_sign_it(desk, capsys):
    capsys.readouterr()
    desk.change("renew", "--lang", "en")
    said = capsys.readouterr().out
    command = next(one for one in said.splitlines() if "trust sign" in one)
    words = shlex.split(command.replace("ROOT.KEY", str(desk.region / "holder-1/root.key")))
    secret = ["--passphrase-file", str(desk.folder / "holder-1.secret"), "--yes"]
    assert main([*words[1:], *secret]) == 0
    assert "trust-1.json" in said


def test_a_draft_does_not_lie_where_the_centre_would_publish_it(desk, capsys):
    desk.draft = desk.trust.with_name("trust-next.json")
    assert desk.change("renew") == 2
    assert "rename" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["clients", "servers"])
def test_a_rotation_that_cannot_write_its_draft_leaves_no_key_and_tells_no_passphrase(
    desk, which, capsys
):
    desk.draft = desk.folder / "missing" / "draft.json"
    capsys.readouterr()
    assert desk.change("rotate-ca", which, "--keys", desk.folder / "new") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (desk.folder / "new").exists()
    desk.draft = desk.folder / "draft.json"
    assert desk.change("rotate-ca", which, "--keys", desk.folder / "new") == 0
    assert not list(desk.folder.glob("*.partial"))


def test_a_rotation_whose_keys_cannot_be_placed_leaves_no_draft(desk):
    blocked = desk.folder / "file"
    blocked.write_text("-")
    assert desk.change("rotate-ca", "clients", "--keys", blocked / "new") == 2
    assert not desk.draft.exists()


def test_a_second_rotation_waits_for_the_first_unless_a_key_was_stolen(desk, capsys):
    desk.change("rotate-ca", "clients", "--keys", desk.folder / "one")
    shutil.move(desk.draft, desk.trust)
    again = ("rotate-ca", "clients", "--keys", desk.folder / "two")
    assert desk.change(*again) == 2
    assert "--overlap-days 0" in capsys.readouterr().err
    assert desk.change(*again, "--overlap-days", 0) == 0


def test_what_has_ended_is_left_out_of_the_next_version(desk):
    later = max(one.until_s for one in desk.held.keys) + 1
    assert trust_changes.renew(desk.held, later).keys == ()


def add_key(desk, *more):
    key = desk.folder / f"new-{len(list(desk.folder.glob('*.pub')))}.key"
    assert main(["provision", "trust", "new-key", str(key), "--online"]) == 0
    told = ["--public", key.with_suffix(".pub"), "--holder", "head", "--purpose", "config"]
    return desk.change("add-key", *told, *more)


def test_a_schools_key_is_named_with_its_scope_and_the_current_epoch(desk, capsys):
    assert add_key(desk, "--scope", "s1") == 0
    added = desk.drafted.keys[-1]
    assert (added.scope, added.epoch, added.holder) == ("s1", 1, "head")
    assert "head, s1," in capsys.readouterr().out
    assert add_key(desk, "--scope", "S 1") == 2


def test_an_epoch_is_new_to_the_whole_document_or_the_scopes_own(desk, capsys):
    assert add_key(desk, "--epoch", "2") == 0
    assert "epoch 2" in capsys.readouterr().out
    held = desk.drafted
    assert held.epoch_of(Purpose.CONFIG, ()) == 2
    assert held.epoch_of(Purpose.FILING, ()) == 1
    assert trust_changes.epoch_for(held, Purpose.CONFIG, "") == 2
    assert trust_changes.epoch_for(held, Purpose.CONFIG, "", 1) == 1
    assert trust_changes.epoch_for(held, Purpose.CONFIG, "s1") == 1
    assert trust_changes.epoch_for(held, Purpose.CONFIG, "s1", 3) == 3
    for scope, asked in (("s1", 2), ("", 0), ("", 2**31)):
        with pytest.raises(BadInput, match="--epoch"):
            trust_changes.epoch_for(held, Purpose.CONFIG, scope, asked)


def test_a_key_that_ended_stays_while_it_alone_says_the_epoch(desk):
    assert add_key(desk, "--epoch", "2", "--days", "1") == 0
    later_s = NOW_S + 10 * DAY_S
    renewed = trust_changes.renew(desk.drafted, later_s)
    assert renewed.epoch_of(Purpose.CONFIG, ()) == 2
    ended = renewed.keys[-1]
    assert ended.epoch == 2
    assert ended not in renewed.keys_for(Purpose.CONFIG, later_s)
    others = tuple(
        replace(one, epoch=2) if one.purpose is Purpose.CONFIG else one for one in renewed.keys
    )
    assert ended not in trust_changes.renew(replace(renewed, keys=others), later_s).keys
