"""``ketang config``: a person's file, checked, signed on a laptop, followed at the centre."""

import getpass
import io
import json

import pytest
from tests.configs import PATH, Signers
from tests.regions import DAY_MS, Region, now_ms

from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Device, Kind, Placement, Service, ServiceState
from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.plan import State
from ketang_center.rollouts.values import Member
from ketang_cli.main import main
from ketang_contract import releases
from ketang_contract.config import Config
from ketang_provisioning import config_files, signing

DEVICES = ("s1-pc-1", "s1-pc-2", "s2-pc-1")
PASSWORD = "seven green kettles"  # noqa: S105  (of fictitious people)


class Desk:
    """A laptop with the region's keys, and the centre's machine beside it."""

    def __init__(self, folder):
        self.folder, self.region = folder, Region(folder)
        self.trust = self.region.folder / "offline" / "trust.json"
        self.settings = self.region.settings()
        for name, passphrase in self.region.passphrases.items():
            (folder / f"{name}.secret").write_text(passphrase)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def keys(self, *names):
        words = []
        for name in names:
            key = self.region.folder / "offline" / f"{name}.key"
            words += ["--key", key, "--passphrase-file", self.folder / f"{name}.secret"]
        return words

    def config(self, *words):
        return main(["config", *map(str, words)])

    def sign(self, text, out, *more, path="lan", keys=("config-1", "config-2")):
        file = self.write("a.toml", text)
        told = ["--for", path, "--trust", self.trust, *self.keys(*keys), "--yes", "--lang", "en"]
        return self.config("sign", file, "--out", self.folder / out, *told, *more)

    def at_centre(self, *words):
        return self.config(*words, "--settings", self.settings)

    def layer(self, name):
        return signing.opened(releases.read((self.folder / name).read_bytes())).layer

    def stock(self):
        since = now_ms() - DAY_MS
        data = Data(
            devices=tuple(Device(id=one, kind=Kind.OPS_PC, name=one) for one in DEVICES),
            placements=tuple(
                Placement(device=one, room=f"{one[:2]}-r1", from_ms=since) for one in DEVICES
            ),
            services=tuple(
                Service(device=one, state=ServiceState.IN_SERVICE, from_ms=since) for one in DEVICES
            ),
        )
        with Registry(self.region.data_dir / "registry.db") as registry:
            registry.load(data)

    def place(self):
        """Let the centre have a signed placement of every device."""
        signers = Signers(self.region)
        ways = {one: (*PATH[:3], ("school", one[:2]), ("room", f"{one[:2]}-r1")) for one in DEVICES}
        signed = self.folder / "all-placed.jsonl"
        signed.write_bytes(
            b"".join(signers.placement(one, way) + b"\n" for one, way in ways.items())
        )
        assert self.at_centre("push", signed) == 0

    def account(self, monkeypatch, name, role, unit="lan", *, password=PASSWORD):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        told = ["--role", role, "--unit", unit, "--settings", str(self.settings)]
        return main(["center", "account", "add", name, *told, "--password-stdin"])

    def approve(self, monkeypatch, name, *, password=PASSWORD):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return self.at_centre("approve", 1, "--as", name, "--password-stdin")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_right_file_is_told_in_words_and_a_wrong_one_in_a_line(made, capsys):
    file = made.write("right.toml", 'usage_s = 30\nhours = ["mon-fri 08:00-17:30"]\n')
    assert made.config("check", file, "--lang", "en") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: ok",
        "  usage_s: 30 s",
        "  hours: mon-fri 08:00-17:30",
    ]
    assert made.config("check", file, "--lang", "zh") == 0
    assert "使用采样间隔 usage_s: 30 s" in capsys.readouterr().out
    file = made.write("wrong.toml", "usage_s = 3\n")
    assert made.config("check", file) == 2
    assert capsys.readouterr().err.startswith(f"ketang: {file}: usage_s: 3 is not accepted")


def test_a_file_without_hours_or_with_none_that_ever_come_is_warned_of(made, capsys):
    file = made.write("always.toml", "usage_s = 30\n")
    assert made.config("check", file, "--lang", "en") == 0
    assert "  WARNING: no hours set: it collects round the clock" in capsys.readouterr().out
    assert made.config("check", file, "--lang", "en", "--level", "school") == 0
    assert "WARNING" not in capsys.readouterr().out
    file = made.write("never.toml", "hours = []\n")
    assert made.config("check", file, "--lang", "zh", "--level", "school") == 0
    assert "将从不采集" in capsys.readouterr().out


def test_what_is_the_regions_alone_is_wrong_below_it(made, capsys):
    file = made.write("alone.toml", '[foreground]\n"vlc" = "media"\n')
    assert made.config("check", file) == 0
    assert made.config("check", file, "--level", "school") == 2
    assert "foreground: the region's alone, not for a school" in capsys.readouterr().err


def test_a_difference_says_what_widens_narrows_and_changes(made, capsys):
    was = made.write("was.toml", 'host_s = 60\nscan_s = 5\n[foreground]\nvlc = "media"\n')
    after = made.write(
        "after.toml", 'host_s = 120\nscan_s = 5\nusage_s = 30\nlog_level = "debug"\n'
    )
    assert made.config("diff", was, after, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "widens": ["usage_s"],  # the profiles' is 60, and nothing was said before
        "narrows": ["host_s", "foreground"],
        "changes": ["log_level"],
    }
    assert made.config("diff", was, after, "--lang", "en") == 0
    assert capsys.readouterr().out.splitlines() == [
        "WIDENS   usage_s: 30 s (before: nothing)",
        "narrows  host_s: 120 s (before: 60 s)",
        "narrows  foreground: drops vlc=media",
        "changes  log_level: debug (before: nothing)",
    ]
    assert made.config("diff", was, was, "--lang", "zh") == 0
    assert capsys.readouterr().out == "没有区别\n"
    assert made.config("diff", was, after, "--level", "school", "--lang", "zh") == 0
    assert capsys.readouterr().out.startswith("收窄  使用采样间隔 usage_s")


def test_a_file_becomes_a_release_that_two_holders_signed(desk, capsys):
    assert desk.sign("usage_s = 30\n", "r1.json") == 0
    said = capsys.readouterr().out
    assert "Release lan-1-" in said
    assert "WIDENS   usage_s: 30 s (before: nothing)" in said
    assert "signed by config-1, config-2" in said
    assert "Complete: every device accepts it" in said
    assert "brings back:\n  nothing\n" in said
    assert desk.sign("usage_s = 30\n", "r1.json") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    previous = desk.folder / "r1.json"
    assert desk.sign("usage_s = 60\n", "r2.json", "--previous", previous) == 0
    assert "narrows  usage_s: 60 s (before: 30 s)" in capsys.readouterr().out
    assert desk.layer("r2.json").version == 3
    assert desk.config("diff", previous, desk.folder / "r2.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["narrows"] == ["usage_s"]


def test_a_draft_is_shown_to_the_second_holder_and_completed(desk, capsys, monkeypatch):
    assert desk.sign("usage_s = 30\n", "r1.json", keys=("config-1",)) == 0
    said = capsys.readouterr().out
    assert "A draft: it widens usage_s; another holder has to sign it too" in said
    assert "ketang config add-signature" in said
    draft = desk.folder / "r1.json"
    told = ["--trust", desk.trust, *desk.keys("config-2"), "--lang", "en"]
    before = draft.read_bytes()
    for answer in ("", "no\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert desk.config("add-signature", draft, *told) == 2
        assert draft.read_bytes() == before
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert desk.config("add-signature", draft, *told) == 0
    said = capsys.readouterr().out
    assert "WIDENS   usage_s: 30 s (before: nothing)" in said
    assert "signed by config-1, config-2" in said
    assert "Complete" in said


def test_a_draft_that_does_not_follow_what_the_second_holder_knows_is_refused(desk, capsys):
    desk.sign("usage_s = 30\n", "r1.json")
    desk.sign("usage_s = 20\n", "other.json", "--name", "other")
    desk.sign(
        "usage_s = 15\n", "r2.json", "--previous", desk.folder / "other.json", keys=("config-1",)
    )
    told = ["--trust", desk.trust, *desk.keys("config-2"), "--yes"]
    draft, known = desk.folder / "r2.json", desk.folder / "r1.json"
    capsys.readouterr()
    assert desk.config("add-signature", draft, *told, "--previous", known) == 2
    assert "does not follow the release named" in capsys.readouterr().err
    assert desk.config("add-signature", draft, *told, "--lang", "en") == 0
    assert "Note: without --previous" in capsys.readouterr().out


def test_a_wrong_passphrase_or_key_signs_nothing(desk, capsys):
    secret = desk.write("config-1.secret", "wrong")
    assert desk.sign("usage_s = 30\n", "r1.json", keys=("config-1",)) == 2
    assert "wrong passphrase" in capsys.readouterr().err
    secret.write_text(desk.region.passphrases["config-1"])
    assert desk.sign("usage_s = 30\n", "r1.json", keys=("filing",)) == 2
    assert "does not name it for configurations" in capsys.readouterr().err
    assert not (desk.folder / "r1.json").exists()
    assert desk.sign("usage_s = 30\n", "r1.json", path="lan/lan-shi", keys=("config-1",)) == 0
    told = ["--trust", desk.trust, *desk.keys("config-2"), "--yes"]
    assert desk.config("add-signature", desk.folder / "r1.json", *told) == 2
    assert "--for" in capsys.readouterr().err
    assert desk.config("add-signature", desk.folder / "r1.json", *told, "--for", "lan/x") == 2
    assert "is of the city lan-shi" in capsys.readouterr().err


def test_who_set_each_value_is_explained_off_line(desk, capsys):
    desk.sign("usage_s = 30\nhost_s = 120\n", "region.json")
    way = "lan/lan-shi/lan-xian/s1"
    desk.sign("usage_s = 60\noccupancy_s = 0\n", "school.json", path=way, keys=("config-1",))
    files = [desk.folder / "school.json", desk.folder / "region.json"]
    capsys.readouterr()
    told = ["--release", *files, "--profile", "ops_pc"]
    assert desk.config("explain", *told, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    fields = said["fields"]
    assert said["warnings"] == ["no_hours"]
    assert fields["usage_s"] == {
        "value": 60,
        "by": "s1",
        "profile": 60,
        "layers": {"lan": 30, "s1": 60},
    }
    assert fields["host_s"]["by"] == "lan"
    assert (fields["occupancy_s"]["value"], fields["occupancy_s"]["by"]) == (0, "s1")
    assert fields["network_s"]["by"] == "profile"
    assert desk.config("explain", *told, "--lang", "en") == 0
    said = capsys.readouterr().out
    assert "usage_s = 60 s  [s1]  (profile: 60 s, lan: 30 s, s1: 60 s)" in said
    assert "WARNING: no hours set: it collects round the clock" in said
    assert desk.config("explain", "--release", files[0], files[0], "--profile", "ops_pc") == 2
    assert desk.config("explain", "--release", files[0]) == 2


def test_releases_and_placements_go_from_the_laptop_to_the_centre(desk, capsys):
    desk.stock()
    listed, signed = desk.folder / "list.jsonl", desk.folder / "placed.jsonl"
    assert desk.at_centre("export", "--out", listed) == 0
    told = ["--trust", desk.trust, "--yes", "--lang", "en"]
    assert desk.config("place", listed, "--out", signed, *told, *desk.keys("config-1")) == 0
    said = capsys.readouterr().out
    assert "s1-pc-1: lan/lan-shi/lan-xian/s1/s1-r1" in said
    assert "3 devices in 2 schools" in said
    assert desk.config("add-signature", signed, *told, *desk.keys("config-2")) == 0
    assert desk.sign("host_s = 300\n", "r1.json", "--name", "calm", keys=("config-1",)) == 0
    release = desk.folder / "r1.json"
    capsys.readouterr()
    assert desk.at_centre("push", signed, release, "--json", "--groups", "1,2") == 0
    placed, begun = map(json.loads, capsys.readouterr().out.splitlines())
    assert (placed["taken"], placed["same"]) == (3, 0)
    assert (begun["release"], begun["rollout"], begun["state"]) == ("calm", 1, "running")
    assert desk.at_centre("push", signed) == 0
    assert "0 placements taken, 3 known already" in capsys.readouterr().out
    assert desk.at_centre("status", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in said["releases"]] == ["calm"]
    assert (said["rollouts"][0]["rules"]["groups"], said["not_placed"]) == ([1, 2], 0)


def test_a_rollout_is_stopped_gone_on_with_and_taken_back(desk, capsys):
    desk.stock()
    desk.place()
    desk.sign("host_s = 300\n", "r1.json", "--name", "calm", keys=("config-1",))
    assert desk.at_centre("push", desk.folder / "r1.json") == 0
    for words, state in (
        (("pause", 1, "--why", "exam"), "paused"),
        (("resume", 1), "running"),
    ):
        capsys.readouterr()
        assert desk.at_centre(*words, "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"rollout": 1, "state": state}
    assert desk.at_centre("retry", 1) == 0
    assert "0 devices try again" in capsys.readouterr().out
    assert desk.at_centre("status", 1) == 0
    assert "calm (release)  lan  running" in capsys.readouterr().out
    assert desk.at_centre("rollback", "calm", "--why", "noise") == 0
    assert "taken back by rollout 2" in capsys.readouterr().out
    assert desk.at_centre("history") == 0
    said = capsys.readouterr().out
    assert getpass.getuser() in said
    assert "exam" in said
    assert desk.at_centre("history", 1, "--json") == 0
    assert {"paused", "resumed"} <= {one["what"] for one in json.loads(capsys.readouterr().out)}
    assert desk.at_centre("rollback", "nothing") == 2
    assert desk.at_centre("cancel", 9) == 2
    assert "there is no rollout 9" in capsys.readouterr().err


def test_one_that_widens_waits_for_somebody_else_and_a_draft_is_not_taken(
    desk, capsys, monkeypatch
):
    desk.stock()
    desk.place()
    desk.sign("usage_s = 30\n", "r1.json", "--name", "wide", keys=("config-1",))
    draft = desk.folder / "r1.json"
    assert desk.at_centre("push", draft) == 2
    assert "two holders have to sign" in capsys.readouterr().err
    told = ["--trust", desk.trust, *desk.keys("config-2"), "--yes"]
    assert desk.config("add-signature", draft, *told) == 0
    capsys.readouterr()
    assert desk.at_centre("push", draft) == 0
    assert "rollout 1 awaiting" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        desk.at_centre("approve", 1)
    assert "--as" in capsys.readouterr().err
    assert desk.account(monkeypatch, getpass.getuser(), "approver") == 0
    assert desk.approve(monkeypatch, getpass.getuser()) == 2
    assert "by somebody else" in capsys.readouterr().err
    assert desk.at_centre("cancel", 1) == 0


def test_a_second_person_proves_which_account_is_his_before_he_approves(desk, capsys, monkeypatch):
    desk.stock()
    desk.place()
    desk.sign("usage_s = 30\n", "r1.json", "--name", "wide")
    assert desk.at_centre("push", desk.folder / "r1.json") == 0
    for name, role, unit in (
        ("liu", "approver", "lan"),
        ("county", "approver", "lan-xian"),
        ("looks", "viewer", "lan"),
        ("gone", "approver", "lan"),
    ):
        assert desk.account(monkeypatch, name, role, unit) == 0
    settings = ["--settings", str(desk.settings)]
    assert main(["center", "account", "disable", "gone", *settings]) == 0
    capsys.readouterr()
    for name, password, told in (
        ("liu", "another password", "do not fit"),
        ("liu", "", "do not fit"),
        ("nobody", PASSWORD, "do not fit"),
        ("gone", PASSWORD, "do not fit"),
        ("looks", PASSWORD, "may not approve for lan"),
        ("county", PASSWORD, "may not approve for lan"),
    ):
        assert desk.approve(monkeypatch, name, password=password) == 2
        assert told in capsys.readouterr().err, name
    assert desk.at_centre("status", 1) == 0
    assert "awaiting" in capsys.readouterr().out
    assert desk.at_centre("approve", 1, "--as", "liu") == 2
    assert "nobody to ask" in capsys.readouterr().err
    assert desk.approve(monkeypatch, "LIU") == 0
    assert "rollout 1: running" in capsys.readouterr().out
    assert desk.at_centre("history", 1) == 0
    assert f"liu  approved  local:{getpass.getuser()}" in capsys.readouterr().out
    assert main(["center", "audit", "export", *settings]) == 0
    noted = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert [one["who"] for one in noted if one["action"] == "login_failed"] == [
        "liu",
        "liu",
        "?",
        "gone",
    ]
    assert ("liu", "rollout_approved") in {(one["who"], one["action"]) for one in noted}


def test_a_password_that_somebody_else_made_proves_nothing(desk, capsys, monkeypatch):
    desk.stock()
    desk.place()
    desk.sign("usage_s = 30\n", "r1.json", "--name", "wide")
    assert desk.at_centre("push", desk.folder / "r1.json") == 0
    told = ["--role", "approver", "--unit", "lan", "--settings", str(desk.settings)]
    assert main(["center", "account", "add", "liu", *told]) == 0
    made = capsys.readouterr().out.split()[-1]
    assert desk.approve(monkeypatch, "liu", password=made) == 2
    assert "change it at the console" in capsys.readouterr().err


def test_percentages_that_fall_are_refused(desk, capsys):
    desk.stock()
    desk.place()
    desk.sign("host_s = 300\n", "r1.json", "--name", "calm")
    release = desk.folder / "r1.json"
    for percents in ("10,50,25", "10,10", "50,101", "0,100", "a"):
        assert desk.at_centre("push", release, "--percents", percents) == 2
        assert "--percents" in capsys.readouterr().err
    assert desk.at_centre("push", release, "--percents", "10,25,50,100") == 0


def test_a_release_that_nobody_could_be_sent_is_kept_and_begins_when_it_is_pushed_again(
    desk, capsys
):
    desk.stock()
    desk.sign("host_s = 300\n", "r1.json", "--name", "calm")
    release = desk.folder / "r1.json"
    assert desk.at_centre("push", release) == 2
    assert "nobody below lan has a signed placement" in capsys.readouterr().err
    assert desk.at_centre("push", "--keep", release) == 2
    assert "is here already" in capsys.readouterr().err
    desk.place()
    assert desk.at_centre("push", release) == 0
    assert "calm: rollout 1 running" in capsys.readouterr().out


def test_a_release_that_leaves_devices_no_hours_is_warned_of(desk, capsys):
    desk.stock()
    desk.place()
    way = "lan/lan-shi/lan-xian/s1"
    desk.sign('hours = ["mon-fri 08:00-12:00"]\n', "school.json", path=way)
    assert desk.at_centre("push", desk.folder / "school.json", "--json") == 0
    with RolloutBook(desk.region.data_dir / "rollouts.db") as book:
        (release,) = book.releases()
        book.set_ground(release.target, release.layer)
    desk.sign('hours = ["mon-fri 13:00-17:00"]\n', "region.json")
    capsys.readouterr()
    assert desk.at_centre("push", "--keep", desk.folder / "region.json") == 0
    assert "warning: 2 devices would have no hours left" in capsys.readouterr().out


def test_why_it_failed_on_a_device_is_told_in_the_persons_language(desk, capsys):
    desk.stock()
    desk.place()
    desk.sign("host_s = 300\n", "r1.json", "--name", "calm")
    assert desk.at_centre("push", desk.folder / "r1.json") == 0
    with RolloutBook(desk.region.data_dir / "rollouts.db") as book:
        one = Member(1, "s1-pc-1", "ops_pc", "s1", 0, 1, State.REJECTED, "no_room")
        book.put_members([one, Member(1, "s1-pc-2", "ops_pc", "s1", 1, 1, State.STAGED)])
    for lang, told in (
        ("en", ["s1-pc-1: refused by the device: no room left on its disk (no_room)"]),
        ("zh", ["s1-pc-1: 设备拒绝: 磁盘空间不足 (no_room)", "s1-pc-2: 等待时机"]),
    ):
        capsys.readouterr()
        assert desk.at_centre("status", 1, "--lang", lang) == 0
        said = [one.strip() for one in capsys.readouterr().out.splitlines()]
        assert set(told) <= set(said)


def test_placements_of_an_epoch_before_are_counted_as_none(desk, capsys):
    desk.stock()
    desk.place()
    capsys.readouterr()
    assert desk.at_centre("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["not_placed"] == 0
    _, document = Signers(desk.region).add_key("", "third", epoch=2)
    (desk.region.center_folder / "trust.json").write_bytes(document)
    assert desk.at_centre("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["not_placed"] == len(DEVICES)
    listed = desk.folder / "list.jsonl"
    assert desk.at_centre("export", "--out", listed) == 0
    assert f"{len(DEVICES)} devices to place" in capsys.readouterr().out


def test_a_device_is_explained_at_the_centre(desk, capsys):
    desk.stock()
    signers = Signers(desk.region)
    file = desk.folder / "one.jsonl"
    file.write_bytes(signers.placement("s1-pc-1") + b"\n")
    release = desk.folder / "r1.json"
    release.write_bytes(
        releases.write(signers.release("lan", "region", Config(host_s=120), release="calm"))
    )
    assert desk.at_centre("push", file, release) == 0
    capsys.readouterr()
    assert desk.at_centre("explain", "--device", "s1-pc-1", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["reported"] is None
    assert said["fields"]["network_s"]["by"] == "profile"
    assert desk.at_centre("explain", "--device", "s1-pc-1", "--lang", "en") == 0
    assert "the device reports: -" in capsys.readouterr().out
    assert desk.at_centre("explain", "--device", "no-such") == 2


def test_what_a_release_says_is_shown_as_a_file_that_makes_the_same(desk, capsys):
    desk.sign('usage_s = 60\nhours = ["mon 08:00-09:00"]\n', "r1.json", "--name", "calm")
    release = desk.folder / "r1.json"
    capsys.readouterr()
    assert desk.config("show", release) == 0
    again = desk.write("again.toml", capsys.readouterr().out)
    assert config_files.read_config(again) == desk.layer("r1.json").content
    assert desk.at_centre("push", "--keep", release) == 0
    capsys.readouterr()
    assert desk.at_centre("show", "calm") == 0
    assert capsys.readouterr().out == again.read_text("utf-8")
    assert desk.at_centre("status") == 0
    assert "-  calm  lan  not begun" in capsys.readouterr().out
