"""For every test: outside parts that may be missing, and free ports."""

import faulthandler
import os
import random
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ketang_cli import local_broker
from tests import parts

# How fast a busy machine makes an example says nothing about what is tested.
# The same examples each time, so that a change is judged by what it changed; `make soak` looks on.
settings.register_profile(
    "ketang",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="KETANG_SEARCH" not in os.environ,
)
settings.load_profile("ketang")

# A port is looked up, and bound seconds later: each worker has ports of its own till then.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = local_broker._PORTS[_WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
local_broker._order = cycle(random.sample(_PORTS, len(_PORTS)))

# What begins last decides when the last worker ends, so files of minutes begin; and one that waits
# for processes goes by turns with one that works, so that no core is idle.
_WAIT, _WORK = ("faults", "flow"), ("security", "web", "simulator", "simulator_rollouts", "unit")
_HERE = Path(__file__).parent

REQUIRE = "KETANG_REQUIRE_PARTS"
"""Set to 1, a missing part fails the tests that need it instead of skipping them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = list(dict.fromkeys(item.path for item in items))
    turns = _turns(files, _WAIT) | _turns(files, _WORK)
    items.sort(key=lambda item: turns.get(item.path, 0))


def _turns(files: Sequence[Path], rooms: Sequence[str]) -> dict[Path, int]:
    room = {one: one.relative_to(_HERE).parts[0] for one in files}
    queue = sorted(
        (one for one in files if room[one] in rooms), key=lambda one: rooms.index(room[one])
    )
    return {one: turn for turn, one in enumerate(queue)}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for part in parts.PARTS:
        if item.get_closest_marker(part.name) is None:
            continue
        why = part.find() is None and parts.why_missing(part.name)
        if why and os.environ.get(REQUIRE) == "1":
            pytest.fail(why, pytrace=False)
        if why:
            pytest.skip(why)


def pytest_runtest_teardown() -> None:
    # An agent in a trial has its own process ended when it hangs; here that would be the next test.
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def free_ports() -> Callable[[], int]:
    """Give a function that names a TCP port nobody listens on at 127.0.0.1, each time another."""
    return local_broker.free_port


@pytest.fixture
def free_port(free_ports: Callable[[], int]) -> int:
    """Give a TCP port nobody listens on at 127.0.0.1."""
    return free_ports()


@pytest.fixture
def mosquitto_path() -> str | None:
    """Give the path of mosquitto; a test marked ``mosquitto`` never sees None."""
    return parts.find("mosquitto")


@pytest.fixture
def chromium_path() -> str | None:
    """Give the path of Chromium; a test marked ``chromium`` never sees None."""
    return parts.find("chromium")
