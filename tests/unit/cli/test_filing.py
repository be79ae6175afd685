"""``ketang filing``: proposed, signed off line, taken in, and in force on a device."""

import io
import json
import time
from contextlib import closing

import pytest
from tests.regions import Region

from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit
from ketang_center.access.database import AccountsFile
from ketang_center.access.passwords import hashed
from ketang_center.access.policy import Grant, Role
from ketang_center.rollouts.filings import Filings
from ketang_cli.main import main
from ketang_contract.config import Level
from ketang_contract.layers import Step
from ketang_contract.permit_judging import Place, judge
from ketang_contract.trust import read_accepted
from ketang_provisioning.permits import TOOLS

PASSWORD = "seven lamps over the river"  # noqa: S105  (of this test alone)
PROPOSAL = """
subject = "model"
name = "mtcnn"
version = "1.0.0"
sha256 = "{sha256}"
number = "岚教备〔2026〕12号"
purpose = "统计教室人数"
data = ["head_counts", "camera_pictures"]
scope = "lan"
"""
STEPS = tuple(
    Step(level=level, unit=unit)
    for level, unit in zip(Level, ("lan", "lan-shi", "lan-xian", "s1", "s1-r1"), strict=False)
)
PLACE = Place(STEPS, "s1-pc-1")


class Desk:
    """A region with its keys, a centre's folder with people, and the command."""

    def __init__(self, folder, patch):
        self.folder, self.region, self.patch = folder, Region(folder), patch
        self.settings = self.region.settings()
        self.trust = self.region.center_folder / "trust.json"
        self.proposal = folder / "model.toml"
        self.proposal.write_text(PROPOSAL.format(sha256="ab" * 32), "utf-8")
        for name, passphrase in self.region.passphrases.items():
            (folder / f"{name}.secret").write_text(passphrase)
        with closing(AccountsFile(self.region.data_dir / "accounts.db")) as people:
            accounts = Accounts(people)
            for name, role in (("pu", Role.PUBLISHER), ("ap", Role.APPROVER)):
                accounts.add(name, name, hashed(PASSWORD), must_change=False, at_ms=0)
                accounts.grant(name, Grant(role, "lan"))

    def run(self, *words):
        return main(["filing", *map(str, words)])

    def at_centre(self, action, *words, by="pu", password=PASSWORD):
        self.patch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        whose = ("--as", by, "--password-stdin", "--settings", self.settings)
        return self.run(action, *words, *whose)

    def keyed(self, name):
        key = self.region.folder / "offline" / f"{name}.key"
        return ("--key", key, "--passphrase-file", self.folder / f"{name}.secret",
                "--trust", self.trust, "--yes", "--lang", "en")  # fmt: skip

    def sign(self, out, *more, proposal=None, key="filing"):
        return self.run("sign", proposal or self.proposal, "--out", out, *more, *self.keyed(key))

    def grant(self, out, *more):
        words = ("--school", "s1", "--trust", self.trust, "--out", out, "--lang", "en")
        return self.run("grant", *words, *more)

    def believed(self, file):
        trust = read_accepted(self.trust.read_bytes())
        return judge(file.read_bytes(), trust, PLACE, int(time.time()), TOOLS)[1]

    def listed(self, capsys, *more):
        capsys.readouterr()
        assert self.run("list", "--json", "--settings", self.settings, *more) == 0
        return json.loads(capsys.readouterr().out)["rows"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Desk(tmp_path_factory.mktemp("region"), patch)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.json"


def test_a_filing_is_proposed_signed_off_line_and_in_force(desk, tmp_path, capsys):
    review, out = tmp_path / "review.toml", tmp_path / "filing.json"
    assert desk.at_centre("submit", desk.proposal) == 0
    assert "filing 1: submitted" in capsys.readouterr().out
    assert desk.at_centre("review", 1, "--out", review, by="pu") == 2
    assert desk.at_centre("review", 1, "--out", review, by="ap") == 0
    assert desk.sign(out, "--days", 20, proposal=review) == 0
    said = capsys.readouterr().out
    assert 'purpose = "统计教室人数"' in said
    assert "for 20 days" in said
    assert desk.believed(out).number == "岚教备〔2026〕12号"
    assert desk.at_centre("approve", 1, out, by="ap") == 0
    (row,) = desk.listed(capsys)
    assert (row["state"], row["approver"]) == ("approved", "approver-1")
    assert row["days_left"] in {19, 20}
    assert len(desk.listed(capsys, "--soon")) == 1
    with Filings(desk.region.data_dir / "filings.db", lambda: time.time_ns() // 10**6) as filings:
        assert len(filings.permits_for("s1-pc-1", STEPS)) == 1
    assert desk.at_centre("withdraw", 1, "--why", "counts wrongly") == 0
    assert desk.listed(capsys)[0]["state"] == "withdrawn"
    with closing(Audit(desk.region.data_dir / "audit.db")) as audit:
        told = [one for one in audit.entries() if one.action.startswith("filing")]
    assert [one.action.removeprefix("filing_") for one in told] == [
        "submitted",
        "reviewed",
        "approved",
        "withdrawn",
    ]
    assert told[0].who.startswith("pu (cli:")


def test_a_grant_takes_the_schools_and_the_approvers_signature(desk, out, capsys):
    assert desk.grant(out) == 2
    assert "name one with --holder" in capsys.readouterr().err
    assert desk.grant(out, "--holder", "config-2", "--days", 60) == 0
    check = ("check", out, "--trust", desk.trust, "--lang", "en")
    assert desk.run(*check) == 1
    assert "NOT believed: forged" in capsys.readouterr().out
    assert desk.run("add-signature", out, *desk.keyed("filing")) == 0
    assert desk.run(*check) == 1
    assert desk.run("add-signature", out, *desk.keyed("config-1")) == 2
    assert "config-1's, and the document names config-2" in capsys.readouterr().err
    assert desk.run("add-signature", out, *desk.keyed("config-2")) == 0
    assert desk.run(*check) == 0
    said = capsys.readouterr().out
    assert "signed by: approver-1 (approver, region)" in said
    assert said.endswith("believed\n")
    assert desk.believed(out).target == "s1"
    assert desk.at_centre("take", out, by="ap") == 0
    assert desk.at_centre("take", out, by="pu") == 2
    rows = desk.listed(capsys, "--grants")
    assert [(one["school"], one["target"]) for one in rows] == [("s1", "s1")]
    assert rows[0]["days_left"] in {59, 60}


def test_a_room_is_granted_from_a_day_on(desk, out, capsys):
    more = ("--target", "s1-r1", "--holder", "config-1", "--from", "2027-03-01")
    assert desk.grant(out, *more, "--lang", "zh") == 0
    said = capsys.readouterr().out
    assert "授权对象: s1-r1" in said
    assert "开始时间: 2027-03-01 00:00 (UTC+8)" in said
    for wrong, told in (
        (("--from", "1st May"), "is no day"),
        (("--days", "400"), "--days"),
        (("--approver", "nobody"), "--approver"),
        (("--holder", "nobody"), "--holder"),
    ):
        other = out.with_name("other.json")
        assert desk.grant(other, "--holder", "config-1", *wrong) == 2
        assert told in capsys.readouterr().err
        assert not other.exists()
    assert desk.grant(out, "--holder", "config-1") == 2, "nothing is overwritten"


def test_a_key_that_may_not_file_signs_nothing(desk, out, capsys):
    assert desk.sign(out, key="config-1") == 2
    assert "none for filings" in capsys.readouterr().err
    assert desk.sign(out, "--days", -1) == 2
    assert desk.sign(out, "--days", 2000) == 2
    assert not out.exists()


def test_one_that_ends_the_one_before_lasts_no_day(desk, out):
    assert desk.sign(out, "--days", 0) == 0
    permit = desk.believed(out)
    assert permit.from_s == permit.until_s


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ('"mtcnn"', '"MTCNN"', "lower-case"),
        ("ab" * 32, "xyz", "sha256"),
        ('"lan"', '"Lan"', "scope"),
        ("head_counts", "faces", "'faces' is unknown"),
        ("purpose =", "purpos =", "purpos: unknown key"),
        ('"model"', '"app"', "hash of its file"),
    ],
)
def test_a_proposal_that_cannot_be_filed_is_told_in_one_line(
    desk, tmp_path, capsys, was, becomes, told
):
    file = tmp_path / "wrong.toml"
    file.write_text(desk.proposal.read_text("utf-8").replace(was, becomes), "utf-8")
    assert desk.run("check", file) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ketang: ")
    assert told in said


def test_a_proposal_is_shown_as_it_will_be_signed(desk, capsys):
    assert desk.run("check", desk.proposal) == 0
    assert 'data = ["camera_pictures","head_counts"]' in capsys.readouterr().out


def test_an_account_that_is_not_there_does_nothing(desk, capsys):
    assert desk.at_centre("submit", desk.proposal, by="nobody") == 2
    assert "do not fit" in capsys.readouterr().err
    assert desk.at_centre("submit", desk.proposal, by="ap") == 2
    assert "may not do this" in capsys.readouterr().err


def test_what_is_no_document_is_told(desk, tmp_path, capsys):
    file = tmp_path / "x.json"
    assert desk.run("check", file, "--trust", desk.trust) == 2
    file.write_bytes(b"{}")
    assert desk.run("check", file, "--trust", desk.trust) == 2
    assert "neither a filing nor a camera grant" in capsys.readouterr().err
    file.write_bytes(b" " * (65 << 10))
    assert desk.run("check", file) == 2


def test_an_act_at_the_centre_asks_for_the_accounts_password(desk, capsys):
    assert desk.at_centre("submit", desk.proposal, password=PASSWORD[1:]) == 2
    assert "do not fit" in capsys.readouterr().err
