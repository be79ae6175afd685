"""One command's walk: asked at the centre, signed, judged, carried out once, answered, shown.

Real broker, centre and agent processes; the command line as an operator has it.
"""

import json
import os
import re
import subprocess
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import pytest
from tests.configs import PATH, Signers
from tests.regions import KETANG, Region, enroll
from tests.unit.agent.test_session_notice import Board

from ketang_agent import diagnostics
from ketang_agent.session_notice import Announcer, Page
from ketang_center import settings as center_settings
from ketang_center.access.accounts import Accounts
from ketang_center.access.audit import Audit
from ketang_center.access.database import AccountsFile
from ketang_center.access.policy import Grant, Role
from ketang_center.rollouts.office import open_office
from ketang_contract.config import Config, Level
from ketang_contract.releases import write

pytestmark = pytest.mark.mosquitto
PATIENCE_S = 120
_DESKTOP = {"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}
_NO_DESKTOP = {name: value for name, value in os.environ.items() if name not in _DESKTOP} | {
    "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere/bus"
}
"""The machine that runs the tests is not to be switched off, whatever the agent asks for."""


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
    return found


class Site:
    """One device of a region with its broker and centre."""

    def __init__(self, folder):
        self.region = Region(folder)
        (self.asset,) = self.region.register(1)
        self.device = self.asset.device
        self.folder = self.region.device_folder(folder / "device")
        with closing(AccountsFile(self.region.data_dir / "accounts.db")) as file:
            Accounts(file).add("yunxi-it", "Yunxi IT", "", must_change=False, at_ms=1)
            Accounts(file).grant("yunxi-it", Grant(Role.OPERATOR, "s1"))
        self.kit = self.region.kit(folder / "kit", self.region.code())

    def enroll(self):
        made = enroll(self.folder, "--kit", str(self.kit), "--serial", self.asset.serial)
        assert made.returncode == 0, made.stderr
        settings = self.folder / "agent.toml"
        text = re.sub("local_port = .*\n", "", settings.read_text("utf-8"))
        settings.write_text(f"local_port = 0\n{text}", "utf-8")

    @contextmanager
    def agent(self):
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                [*KETANG, "agent", "run", "--settings", str(self.folder / "agent.toml")],
                stderr=log,
                env=_NO_DESKTOP,
            )
        try:
            wait_for(self.connected, "a connection")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)

    def connected(self):
        try:
            status, text = self.page("GET", "/status.json")
        except OSError:
            return False
        return status == 200 and json.loads(text)["uplink"]["connected"]

    @property
    def port(self):
        """Where the agent's page is."""
        return urlsplit((self.folder / "data" / "local-page").read_text("ascii").strip()).port

    def page(self, method, path, form=None):
        """Visit the page on the device, as a person in the room does."""
        url = (self.folder / "data" / "local-page").read_text("ascii").strip()
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
        try:
            headers = {"Origin": url.rstrip("/")}
            connection.request(method, path, urlencode(form) if form else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @property
    def settings(self):
        return self.region.center_folder / "center-test.toml"

    @property
    def in_force(self):
        """What the device does now, as it keeps it."""
        try:
            said = json.loads((self.folder / "data" / "remote" / "remote.json").read_bytes())
        except FileNotFoundError:
            return {}
        return said["machine"]["in_force"]

    def command(self, *words):
        made = subprocess.run(
            [*KETANG, "command", *words, "--settings", str(self.settings)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S + 30,
            check=False,
        )
        assert made.returncode in {0, 1}, made.stderr
        return [json.loads(line) for line in made.stdout.splitlines()]

    def ask(self, what, *more, wait=PATIENCE_S):
        (job,) = self.command(what, "--device", self.device, "--wait", str(wait), *more)
        return job

    def job(self, name):
        (job,) = self.command("status", name)
        return job

    def ended(self, name):
        def over():
            job = self.job(name)
            return job if job["state"] in {"done", "failed", "refused", "cancelled"} else None

        return wait_for(over, f"the end of {name}")


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    with made.region.broker(), made.region.center():
        made.enroll()
        yield made
    assert "Traceback" not in made.region.log()
    assert "Traceback" not in (made.folder / "agent.log").read_text()


def test_each_kind_of_command_is_carried_out_answered_and_audited(site):
    with site.agent():
        read = site.ask("inventory")
        assert (read["state"], read["result"]["recorded"]) == ("done", True)
        probe = site.ask("probe")
        assert probe["state"] == "done"
        assert probe["result"]["family"] in {"v4", "v6"}
        assert probe["result"]["connect_ms"] >= 0
        # No hours are set on this device, so there is no time after them.
        off = site.ask("shut-down", "--countdown", "60", "--as", "yunxi-it")
        assert (off["state"], off["reason"]) == ("refused", "no_hours")
    with closing(Audit(site.region.data_dir / "audit.db")) as audit:
        actions = [one.action for one in audit.entries()]
    assert actions.count("command_asked") == actions.count("command_ended") == 3


def test_diagnostics_come_when_a_person_at_the_device_agrees_and_not_before(site, tmp_path):
    with site.agent():
        job = site.ask("diagnostics", "--as", "yunxi-it", wait=0)["job"]
        wait_for(lambda: site.job(job)["state"] == "waiting_consent", "the question")
        status, html = site.page("GET", "/diagnostics?lang=en")
        assert status == 200
        assert "yunxi-it" in html
        form = re.search(r'action="/agree[^"]*">(.*?)</form>', html)[1]
        values = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        assert site.page("POST", "/agree", values)[0] == 303
        assert site.ended(job)["state"] == "done"
    site.command("archive", job, "--out", str(tmp_path / "got.zip"))
    files = diagnostics.read(tmp_path / "got.zip")
    assert json.loads(files["settings.json"])["device"] == site.device
    assert "127.0.0.1" not in "".join(files.values())
    assert str(site.folder) not in "".join(files.values())
    kept = site.folder / "data" / "remote" / f"diagnostics-{job}.zip"
    assert kept.read_bytes() == (tmp_path / "got.zip").read_bytes(), "what was shown was sent"


def test_a_restart_is_done_when_the_next_agent_says_so(site):
    with site.agent() as process:
        job = site.ask("restart", wait=0)["job"]
        assert process.wait(PATIENCE_S) == 0
        assert site.job(job)["state"] == "running"
    with site.agent():
        assert site.ended(job)["state"] == "done"


def test_a_shutdown_after_hours_counts_down_on_the_page_and_anyone_cancels_it(site):
    signers = Signers(site.region)
    with site.agent():
        with open_office(center_settings.read(site.settings)) as office:
            placed = office.take_placements([signers.placement(site.device, PATH)], "li")
            assert not placed.refused
            always_after_hours = signers.release("lan", Level.REGION, Config(hours=()))
            office.begin(office.admit(write(always_after_hours), "li").name, "li")
        wait_for(lambda: site.in_force.get("hours") == [], "the hours")
        words = "--countdown", "600", "--as", "yunxi-it"
        job = site.ask("shut-down", *words, wait=0)["job"]
        wait_for(lambda: site.job(job)["state"] == "running", "the countdown")
        assert "desktop" not in site.job(job)["result"], "this agent has no desktop"
        session = Announcer(Page(site.port), Board(), lambda: time.time_ns() // 10**6)
        session.step()
        wait_for(lambda: site.job(job)["result"].get("desktop"), "that a session shows it")
        status, html = site.page("GET", "/?lang=zh")
        assert status == 200
        assert "本机将于" in html
        assert "yunxi-it" in html
        form = re.search(r'action="/cancel[^"]*">(.*?)</form>', html)[1]
        values = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        assert site.page("POST", "/cancel", values)[0] == 303
        ended = site.ended(job)
        assert (ended["state"], ended["reason"]) == ("cancelled", "cancelled")
        assert "本机将于" not in site.page("GET", "/?lang=zh")[1]
