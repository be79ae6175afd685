"""The doctor: plain words about what works, and what to do about what does not."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.agent.test_local_page import STATUS

from ketang_agent import doctor
from ketang_agent.doctor import Verdict
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.local_page.server import LocalPage
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
