"""Commands put together with the agent's own parts."""

import logging
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from tests.unit.agent.clocks import MONDAY_MS
from tests.unit.agent.commanded import DEVICE, NOW_S, command, identity, sealed
from tests.unit.agent.test_diagnostics import settings
from tests.unit.agent.test_local_page import STATUS

from ketang_agent.clock import Instant
from ketang_agent.collectors.base import Gatherer
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.remote.commands_room import Room
from ketang_agent.remote.commands_setup import Around, Commanded, why_not_after_hours
from ketang_agent.uplink.client import Broker
from ketang_contract.commands import Answer, What, split_answer
from ketang_contract.config import Config
from ketang_contract.records import Inventory, TimeQuality
from ketang_contract.validate import document

HEAVY = ("cryptography", "pydantic", "zipfile", "ketang_agent.doctor", "ketang_agent.diagnostics")


@dataclass
class Link:
    connected: bool = True
    session: int = 1
    said: list[Answer] = field(default_factory=list)

    def say_answer(self, job, payload):
        self.said.append(document(Answer, split_answer(payload)[0]))
        return True


@pytest.fixture
def parts(tmp_path):
    """The agent's parts as lists, and commands over them."""
    place = identity(tmp_path / "identity")
    said = settings(tmp_path)
    broker = Broker("127.0.0.1", 1, place.servers, place.identity, place.identity)
    recorded, stopped = [], []
    around = Around(
        settings=type(said)(
            device=DEVICE, center_id="c-1", profile="ifp", data_dir=tmp_path, broker=broker
        ),
        version="1.2.3",
        ring=lambda: None,
        stop=lambda: stopped.append(1),
        route=BrokerLink,
    )
    page = SimpleNamespace(room=Room(), shown=STATUS)
    configured = SimpleNamespace(applied=Config(hours=()))
    recorder = SimpleNamespace(add=lambda reading, _: recorded.append(reading))
    made = Commanded(around, page, configured, Gatherer(), recorder)
    yield made, recorded, stopped
    made.close()


def run(commanded, what, link):
    now = Instant(NOW_S * 1000, 1_000_000, "boot-1")
    one = command(what)
    commanded.take(one.job, sealed(one), False, now)
    commanded.turn(None, now, 5.0)
    for second in range(1, 60):
        child = commanded._commands._child
        if child:
            child.process.wait(60)
        now = Instant(NOW_S * 1000 + second * 1000, 1_000_000 + second * 1000, "boot-1")
        if commanded.turn(link, now, 5.0) == 5.0:
            return


def test_an_inventory_goes_to_the_recorder(parts):
    commanded, recorded, _ = parts
    link = Link()
    run(commanded, What.READ_INVENTORY, link)
    [reading] = recorded
    assert isinstance(reading, Inventory)
    assert reading.agent_version == "1.2.3"
    assert link.said[-1].state == "done"


def test_a_restart_stops_the_agent_and_a_new_session_hears_the_answer_again(parts):
    commanded, _, stopped = parts
    link = Link()
    run(commanded, What.RESTART_AGENT, link)
    assert stopped
    before = len(link.said)
    link.session = 2
    commanded.turn(link, Instant(NOW_S * 1000, 1_100_000, "boot-1"), 5.0)
    assert len(link.said) == before + 1


def test_the_log_is_kept_while_the_agent_runs_and_no_longer(parts):
    commanded, *_ = parts
    logging.getLogger("ketang.spool").warning("spool.evicted records=%d", 3)
    assert commanded._tail.lines()[-1].endswith("spool.evicted records=3")
    commanded.close()
    logging.getLogger("ketang.spool").warning("spool.evicted records=%d", 4)
    assert commanded._tail.lines()[-1].endswith("records=3")


NIGHT = Instant(MONDAY_MS + 20 * 3_600_000 - 8 * 3_600_000, 1, "b", TimeQuality.SYNCED)
NOON = Instant(MONDAY_MS + 12 * 3_600_000 - 8 * 3_600_000, 1, "b", TimeQuality.SYNCED)
SCHOOL = Config(hours=((0, 8 * 60, 17 * 60),))


@pytest.mark.parametrize(
    ("config", "now", "why_not"),
    [
        (SCHOOL, NIGHT, ""),
        (SCHOOL, NOON, "in_hours"),
        (Config(), NIGHT, "no_hours"),
        (Config(hours=()), NOON, ""),
        (SCHOOL, Instant(NIGHT.wall_ms, 1, "b", TimeQuality.BAD), "clock_wrong"),
    ],
)
def test_after_hours_is_only_where_hours_are_set_and_the_time_is_known(config, now, why_not):
    assert why_not_after_hours(config, now) == why_not


def test_the_supervisor_pays_for_nothing_that_no_command_asked_for():
    words = (
        "import sys, ketang_agent.remote.commands_setup;"
        f"print([one for one in {HEAVY} if one in sys.modules])"
    )
    made = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60
    )
    assert made.stdout.strip() == "[]"
