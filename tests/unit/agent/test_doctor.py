"""The doctor: plain words about what works, and what to do about what does not."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.agent.test_local_page import STATUS

from ketang_agent import doctor, power
from ketang_agent.doctor import Verdict
from ketang_agent.hours import Hours
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page.server import LocalPage
from ketang_agent.power import Power
from ketang_agent.settings import Settings
from ketang_agent.status import CollectorStatus, Result
from ketang_agent.uplink.client import Broker
from ketang_cli import main as command
from ketang_contract.records import TimeQuality
from ketang_contract.state import ConfigReport, ConfigState
from ketang_provisioning.ca import ThrowawayAuthority

FINE = replace(STATUS, faults=())


class Ward:
    """A device with certificates, and a page that shows a status."""

    def __init__(self, folder):
        identity = ThrowawayAuthority(folder / "keys").client("panel-1")
        self.settings = Settings(
            device="panel-1",
            center_id="center-1",
            profile="ifp",
            data_dir=folder / "data",
            broker=Broker(
                "127.0.0.1",
                1,
                identity.ca_file,
                identity.certificate_file,
                identity.key_file,
            ),
            local_port=0,
        )
        self.settings.data_dir.mkdir(mode=0o700)
        self.file = folder / "agent.toml"
        self.file.write_text(
            'device = "panel-1"\ncenter_id = "center-1"\nprofile = "ifp"\ndata_dir = "data"\n'
            f'broker_host = "127.0.0.1"\nlocal_port = 0\nca = "{identity.ca_file}"\n'
            f'certificate = "{identity.certificate_file}"\nkey = "{identity.key_file}"\n',
            encoding="utf-8",
        )
        data = self.settings.data_dir
        self.page = LocalPage(0, data / "local-page", data / "spool.db", KillSwitch(data / "s"))

    def shows(self, status):
        self.page.show(status)
        if not self.page.url:
            self.page.start()

    def examine(self, now=None):
        return doctor.examine(self.settings, now or datetime.now(UTC))

    def wrong(self, now=None):
        found = [one for one in self.examine(now) if one.verdict is Verdict.WRONG]
        assert all(one.to_do for one in found), "nobody is left without advice"
        return [one.name for one in found]


@pytest.fixture(autouse=True)
def logind(monkeypatch):
    """What logind says; the tests' machine runs none that may be asked."""
    said = [Power.NO_LOGIND]
    monkeypatch.setattr(power, "as_owner_of", lambda _: said[-1])
    return said


@pytest.fixture
def ward(tmp_path):
    ward = Ward(tmp_path)
    yield ward
    ward.page.stop()


def test_a_device_that_is_well_has_nothing_wrong(ward):
    ward.shows(FINE)
    assert ward.wrong() == []


def test_an_agent_that_does_not_run_is_the_only_thing_wrong(ward):
    assert ward.wrong() == ["agent"]


def test_another_agent_on_the_port_is_not_taken_for_ours(ward):
    ward.shows(replace(FINE, device="panel-2"))
    assert ward.wrong() == ["agent"]


def test_each_trouble_the_agent_tells_becomes_a_line_with_advice(ward):
    ward.shows(
        replace(
            STATUS,
            uplink=replace(STATUS.uplink, connected=False),
            spool=replace(STATUS.spool, trouble="disk is full", unsaved=3),
            time=TimeQuality.BAD,
            collectors=(
                CollectorStatus(name="host", interval_s=60, result=Result.FAILING, why="gone"),
                CollectorStatus(name="usage", interval_s=60, result=Result.NOT_APPLICABLE, why="-"),
            ),
        )
    )
    assert ward.wrong() == ["centre", "records", "clock", "fault", "collector host"]


@pytest.mark.parametrize(
    ("report", "wrong"),
    [
        (ConfigReport(), False),
        (ConfigReport(state=ConfigState.COMMITTED, running="a" * 64, desired="a" * 64), False),
        (ConfigReport(state=ConfigState.TRIAL, desired="b" * 64), False),
        (ConfigReport(state=ConfigState.REJECTED, desired="b" * 64, reason="expired"), True),
        (
            ConfigReport(
                state=ConfigState.ROLLED_BACK,
                running="a" * 64,
                desired="b" * 64,
                reason="crashed",
            ),
            True,
        ),
    ],
)
def test_a_configuration_that_is_not_in_force_is_told_with_its_reason(ward, report, wrong):
    ward.shows(replace(FINE, config=report))
    (line,) = [one for one in ward.examine(datetime.now(UTC)) if one.name == "configuration"]
    assert (ward.wrong() == ["configuration"]) is wrong
    assert (report.reason in line.found) if wrong else line.verdict == "fine"


def judged(ward, **said):
    folder = ward.settings.data_dir / "remote"
    folder.mkdir(exist_ok=True)
    (folder / "judged.json").write_text(json.dumps({"hash": "b" * 64, **said}))


def test_what_the_device_said_of_a_refusal_and_of_permits_is_told(ward, capsys):
    report = ConfigReport(state=ConfigState.REJECTED, desired="b" * 64, reason="left_out")
    ward.shows(replace(FINE, config=report))
    judged(ward, reason="left_out", detail="the layer of s1 is missing")
    assert ward.wrong() == ["configuration"]
    (line,) = [one for one in ward.examine() if one.name == "configuration"]
    assert "left_out (the layer of s1 is missing)" in line.found
    dropped = [["c" * 64, "one_holder"], ["d" * 64, "expired"], ["e" * 64, "brand_new"]]
    judged(ward, reason="", permits_dropped=dropped)
    ward.shows(FINE)
    assert ward.wrong() == ["filing or grant"] * 3
    lines = [one for one in ward.examine() if one.name == "filing or grant"]
    assert lines[0].found == "cccccccccccc was brought and not taken: one_holder"
    assert "second holder" in lines[0].to_do
    assert command.main(["agent", "status", "--settings", str(ward.file)]) == 0
    assert "not taken  filing or grant dddddddddddd: expired" in capsys.readouterr().out


@pytest.mark.parametrize("raw", ["", "[]", "{", '{"permits_dropped": [1, ["x"], null]}', "7"])
def test_a_verdict_that_was_torn_tells_nothing_and_harms_nothing(ward, raw):
    judged(ward)
    (ward.settings.data_dir / "remote" / "judged.json").write_text(raw)
    ward.shows(FINE)
    assert ward.wrong() == []


@pytest.mark.parametrize(
    ("said", "hours", "verdict", "words"),
    [
        (Power.YES, Hours.CLOSED, Verdict.FINE, "lets the agent's account"),
        (Power.NO, Hours.CLOSED, Verdict.WRONG, "does not let"),
        (Power.NO, Hours.NOT_SET, Verdict.FINE, "nobody can ask for it"),
        (Power.BLOCKED, Hours.OPEN, Verdict.UNKNOWN, "a program blocks it"),
        (Power.NO_LOGIND, Hours.OPEN, Verdict.FINE, "no logind"),
        (Power.UNKNOWN, Hours.OPEN, Verdict.UNKNOWN, "was not asked"),
    ],
)
def test_whether_the_agent_may_switch_off_matters_where_hours_are_set(
    ward, logind, said, hours, verdict, words
):
    logind.append(said)
    ward.shows(replace(FINE, hours=hours))
    (line,) = [one for one in ward.examine() if one.name == "after-hours shutdown"]
    assert line.verdict is verdict
    assert words in line.found
    assert bool(line.to_do) is (verdict is not Verdict.FINE)


@pytest.mark.parametrize("hours", Hours)
def test_how_it_stands_with_hours_is_told(ward, capsys, hours):
    ward.shows(replace(FINE, hours=hours))
    (line,) = [one for one in ward.examine() if one.name == "hours"]
    assert line.verdict is Verdict.FINE
    assert ("none are set" in line.found) is (hours is Hours.NOT_SET)
    assert command.main(["agent", "status", "--settings", str(ward.file)]) == 0
    assert f"hours      {hours.value.replace('_', ' ')}\n" in capsys.readouterr().out


def test_missing_certificate_files_are_named(ward):
    ward.settings.broker.ca_file.unlink()
    ward.shows(FINE)
    assert ward.wrong() == ["ca"]


def test_a_certificate_that_ended_is_wrong_and_one_that_ends_soon_is_told(ward):
    ward.shows(FINE)
    later = datetime.now(UTC) + timedelta(days=20)
    soon = [one for one in ward.examine(later) if one.to_do == "renew it soon"]
    assert len(soon) == 2
    assert set(ward.wrong(datetime.now(UTC) + timedelta(days=4000))) == {"certificate dates"}


def test_what_is_no_certificate_is_told(ward):
    ward.settings.broker.certificate_file.write_text("hello")
    ward.shows(FINE)
    assert ward.wrong() == ["certificate dates"]


def test_a_data_folder_that_is_gone_is_told(ward):
    shutil.rmtree(ward.settings.data_dir)
    assert ward.wrong() == ["disk", "agent"]


def test_the_commands_exit_status_says_fine_wrong_or_mistaken(ward, capsys):
    words = ["agent", "doctor", "--settings", str(ward.file)]
    assert command.main(words) == 1
    ward.shows(FINE)
    assert command.main(words) == 0
    assert "all is well" in capsys.readouterr().out
    ward.file.write_text("colour = 1")
    assert command.main(words) == 2
    assert "colour: unknown key" in capsys.readouterr().err


def test_the_status_command_prints_lines_or_json_and_says_when_nobody_answers(ward, capsys):
    words = ["agent", "status", "--settings", str(ward.file)]
    assert command.main(words) == 1
    assert "does not answer" in capsys.readouterr().err
    ward.shows(FINE)
    assert command.main(words) == 0
    assert "connected: broker.example:8883" in capsys.readouterr().out
    assert command.main([*words, "--json"]) == 0
    assert '"device": "panel-1"' in capsys.readouterr().out


@pytest.mark.parametrize("address", ["http://127.0.0.1:no/", "http://[::1/"])
def test_an_address_file_that_was_torn_is_an_agent_that_does_not_answer(ward, address):
    (ward.settings.data_dir / "local-page").write_text(address, "ascii")
    said, why = doctor.ask(ward.settings)
    assert said is None
    assert address in why
