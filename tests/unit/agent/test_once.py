import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.unit.agent.clocks import FakeClock

from ketang_agent.clock import SystemClock
from ketang_agent.collectors.base import (
    CollectorSettings,
    Gatherer,
    HostReading,
    NotApplicable,
)
from ketang_agent.collectors.registry import collectors_of
from ketang_agent.once import read_once
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux import desktop

EVERY = dict.fromkeys(("usage", "host", "network", "inventory", "security"), 60)


class Says:
    def __init__(self, name, *said):
        self.name, self.said = name, said

    def sample(self, now):
        for one in self.said:
            if isinstance(one, Exception):
                raise one
            yield one


def test_a_broken_collector_does_not_stop_the_next():
    said = read_once(
        [Says("one", ValueError("bug")), Says("two", HostReading(cpu_pct=1))],
        FakeClock(),
        pause=lambda _: None,
    )
    assert [(one.collector, one.reason) for one in said] == [
        ("one", "ValueError: bug"),
        ("two", None),
    ]
    assert said[0].reading is None
    assert said[1].reading["cpu_pct"] == 1


def test_what_a_device_lacks_is_no_failure():
    gatherer = Gatherer()
    assert gatherer.gather(Says("battery", NotApplicable("no battery")), FakeClock().now()) == []
    assert gatherer.not_applicable == {"battery": "no battery"}
    assert not gatherer.failing


def test_a_collector_is_told_of_once_when_down_and_once_when_back(caplog):
    caplog.set_level(logging.INFO, "ketang.collectors")
    gatherer, now = Gatherer(), FakeClock().now()
    for said in (OSError("x"), OSError("x"), HostReading(), HostReading()):
        gatherer.gather(Says("host", said), now)
    assert [one.message.split()[0] for one in caplog.records] == [
        "collector.down",
        "collector.back",
    ]


def test_a_collector_without_an_interval_is_off():
    settings = CollectorSettings(intervals_s={"host": 60})
    assert [one.name for one in collectors_of(settings, Desktop())] == ["host"]


def test_this_very_machine_gives_one_reading_of_everything_and_no_address_of_it():
    settings = CollectorSettings(intervals_s=EVERY, agent_version="0.1.0")
    collectors = collectors_of(settings, desktop(os.environ))
    said = read_once(collectors, SystemClock(), settle_s=0.05)
    assert [one.collector for one in said] == list(EVERY)
    text = json.dumps([asdict(one) for one in said])
    assert said[1].reading["memory_used_pct"] > 0
    for link in Path("/sys/class/net").iterdir():
        mac = (link / "address").read_text().strip()
        assert mac == "00:00:00:00:00:00" or mac not in text
    assert "fe80" not in text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_sampling_loads_nothing_heavy():
    code = (
        "import os, sys\n"
        "from ketang_agent.clock import SystemClock\n"
        "from ketang_agent.once import read_once\n"
        "from ketang_agent.collectors.base import CollectorSettings\n"
        "from ketang_agent.collectors.registry import collectors_of\n"
        "from ketang_agent.platforms.linux import desktop\n"
        "import ketang_agent.recorder, ketang_agent.scheduler\n"
        f"settings = CollectorSettings(intervals_s={EVERY!r})\n"
        "read_once(collectors_of(settings, desktop(os.environ)), SystemClock(), settle_s=0)\n"
        "print(' '.join(sys.modules))\n"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "asyncio",
        "numpy",
        "cv2",
        "pydantic",
        "sqlite_utils",
        "importlib.metadata",
    }
