"""``ketang center account`` and ``audit``, on the files of a centre."""

import io
import json
import re
import sqlite3

import pytest
from tests.web.seed import offices, registry_data

from ketang_center.access import passwords
from ketang_center.access.audit import HEADS, Audit, send_head
from ketang_center.access.policy import Grant, Role
from ketang_center.registry.database import Registry
from ketang_cli.main import main

GOOD = "seven wet umbrellas"


@pytest.fixture
def center(tmp_path):
    """Give what runs ``ketang center`` on a centre with a loaded registry."""
    data = tmp_path / "data"
    data.mkdir()
    with Registry(data / "registry.db") as registry:
        registry.load(registry_data())
    settings = tmp_path / "center.toml"
    settings.write_text(
        'data_dir = "data"\nbroker_host = "127.0.0.1"\nca = "a"\ncertificate = "b"\nkey = "c"\n',
        "utf-8",
    )
    return lambda *words: main(["center", *words, "--settings", str(settings)])


def account(tmp_path, name):
    with offices(tmp_path / "data") as books:
        return books["accounts"].get(name)


def test_the_first_administrator_is_made_here_and_told_a_password_once(center, tmp_path, capsys):
    words = ("account", "add", "Ann", "--role", "admin", "--role", "operator", "--unit", "lan")
    assert center(*words) == 0
    password = re.search(r": ([a-z2-9-]+)\n", capsys.readouterr().out)[1]
    one = account(tmp_path, "ann")
    assert one.grants == (Grant(Role.ADMIN, "lan"), Grant(Role.OPERATOR, "lan"))
    assert one.must_change_password
    assert passwords.matches(one.password_hash, password)
    assert center("account", "list") == 0
    assert capsys.readouterr().out == "ann: admin on lan, operator on lan\n"
    with offices(tmp_path / "data") as books:
        acts = [(e.who, e.action, e.subject, e.unit) for e in books["audit"]]
    assert acts == [
        ("console", "account_added", "ann admin", "lan"),
        ("console", "account_added", "ann operator", "lan"),
    ]


def test_one_account_does_not_both_publish_and_approve(center, tmp_path, capsys):
    both = ("--role", "publisher", "--role", "approver", "--unit", "lan-xian")
    assert center("account", "add", "ann", *both) == 2
    assert "cannot both publish and approve" in capsys.readouterr().err
    assert account(tmp_path, "ann") is None
    assert center("account", "add", "ann", "--role", "publisher", "--unit", "lan-xian") == 0
    capsys.readouterr()
    for unit in ("lan", "s1"):
        assert center("account", "grant", "ann", "--role", "approver", "--unit", unit) == 2
        said = capsys.readouterr().err
        assert "another account" in said
        assert said.count("\n") == 1
    assert center("account", "grant", "ann", "--role", "approver", "--unit", "s3") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--role", "admin", "--unit", "nowhere"), "the top is lan"),
        (("--role", "viewer", "--unit", "s1-r1"), "the top is lan"),
    ],
)
def test_a_wrong_unit_is_told_in_one_line(center, tmp_path, capsys, words, told):
    assert center("account", "add", "ann", *words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert account(tmp_path, "ann") is None


def test_a_password_is_read_from_standard_input_and_judged(center, tmp_path, capsys, monkeypatch):
    words = ("account", "add", "ann", "--role", "viewer", "--unit", "s1", "--password-stdin")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert center(*words) == 2
    assert "12 characters at least" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{GOOD}\n"))
    assert center(*words) == 0
    assert capsys.readouterr().out == ""
    one = account(tmp_path, "ann")
    assert passwords.matches(one.password_hash, GOOD)
    assert not one.must_change_password
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{GOOD}\n"))
    assert center(*words) == 2
    assert "is taken" in capsys.readouterr().err


def test_grants_are_given_and_taken_and_sessions_end_with_reset_and_disable(center, tmp_path):
    center("account", "add", "ann", "--role", "viewer", "--unit", "s1")
    center("account", "grant", "ann", "--role", "operator", "--unit", "s2")
    center("account", "grant", "ann", "--role", "viewer", "--unit", "s1", "--revoke")
    assert account(tmp_path, "ann").grants == (Grant(Role.OPERATOR, "s2"),)
    with offices(tmp_path / "data") as books:
        tokens = [books["sessions"].open("ann", "password", 0)]
        assert books["sessions"].find(tokens[0], 0)
    assert center("account", "reset", "ann") == 0
    with offices(tmp_path / "data") as books:
        assert books["sessions"].find(tokens[0], 0) is None
        tokens.append(books["sessions"].open("ann", "password", 0))
    assert center("account", "disable", "ann") == 0
    assert account(tmp_path, "ann").disabled
    with offices(tmp_path / "data") as books:
        assert books["sessions"].find(tokens[1], 0) is None
    assert center("account", "disable", "ann", "--undo") == 0
    assert not account(tmp_path, "ann").disabled
    assert center("account", "disable", "nobody") == 2


def test_the_audit_log_is_checked_against_heads_kept_elsewhere_and_written_out(
    center, tmp_path, capsys
):
    assert center("audit", "verify") == 2, "there is no log yet"
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "data" / "audit.db").exists(), "asking made none"
    audit = Audit(tmp_path / "data" / "audit.db")
    for no in range(3):
        audit.note(no, "ann", "login", "")
        head = send_head(audit, tmp_path, no)
    audit.close()
    heads = ("--head", str(tmp_path / HEADS))
    assert center("audit", "verify", *heads) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"3 entries hold; head {head.hash}\n")
    assert "nothing was cut off" in said
    assert center("audit", "export") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["no"] for one in lines] == [1, 2, 3]
    with sqlite3.connect(tmp_path / "data" / "audit.db") as db:
        db.execute("DROP TRIGGER audit_stays")
        db.execute("DELETE FROM audit WHERE no >= 3")
    assert center("audit", "verify") == 0
    assert center("audit", "verify", *heads) == 1
    assert "broken at entry 3" in capsys.readouterr().err
