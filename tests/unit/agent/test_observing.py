"""What a person is told of what is in force."""

from types import SimpleNamespace

import pytest
from tests.unit.agent.clocks import FakeClock

from ketang_agent.collectors.base import Gatherer
from ketang_agent.hours import Hours
from ketang_agent.observing import Observer, Parts
from ketang_agent.settings import OccupancySettings
from ketang_agent.spool.guard import Grip
from ketang_contract.config import Config
from ketang_contract.state import Camera, ConfigReport

NOW = FakeClock().now()
PARTS = Parts(
    keeper=SimpleNamespace(spool=None, cap_bytes=0, unsaved=0, dropped=0, trouble=""),
    grip=Grip.FREE,
    link=None,
    sender=None,
    camera=Camera.COUNTING,
    faults=(),
    config=ConfigReport(),
    permits=None,
    model="mtcnn",
    window_ends_in_s=0,
)


def status(said):
    settings = SimpleNamespace(
        device="pc-1",
        center_id="c",
        profile="ifp",
        contact="",
        broker=SimpleNamespace(host="b", port=1),
        occupancy=OccupancySettings(source="film.mp4", scan_s=10),
    )
    observer = Observer(settings, "0.1.0", NOW, Gatherer())
    observer.said = said
    return observer.status(PARTS, NOW)


@pytest.mark.parametrize(
    ("said", "interval_s"),
    [
        (Config(), 10),
        (Config(occupancy_s=300), 10),
        (Config(occupancy_s=300, scan_s=60), 60),
        (Config(occupancy_s=300, scan_s=5), 10),
        (Config(occupancy_s=1000, scan_s=60), 1200),
        (Config(occupancy_s=3600), 3600),
    ],
)
def test_people_are_shown_as_counted_as_often_as_they_are(said, interval_s):
    (shown,) = status(said).collectors
    assert (shown.name, shown.interval_s) == ("occupancy", interval_s)


def test_whether_hours_are_set_is_told():
    assert status(Config()).hours is Hours.NOT_SET
    assert status(Config(hours=((0, 480, 600),))).hours is Hours.OPEN
    assert status(Config(hours=())).hours is Hours.NEVER
