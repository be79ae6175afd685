"""The real agent changes its own release over a real broker and centre, and comes back."""

import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from tests.flow.test_remote_config import Site, wait_for
from tests.regions import KETANG
from tests.releases import archive_of, whole
from tests.security.depots import Depot

from ketang_agent import VERSION, versions
from ketang_agent.versions import INSTALLED
from ketang_contract import agent_release
from ketang_contract.config import AgentChoice, Config, Level
from ketang_contract.state import ConfigState
from ketang_provisioning import updates

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.slow,
]

DIES = """
def _die(self):
    self._plan()
    os._exit(3)


Service.run = _die
"""


class Home(Site):
    """A site whose device runs under a watcher, and which has an update repository."""

    def __init__(self, folder):
        super().__init__(folder)
        self.depot = Depot(self.region, folder, datetime.now(UTC))
        self.releases = folder / "versions"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()

    @contextmanager
    def watched(self):
        words = ["agent", "watch", "--settings", str(self.folder / "agent.toml")]
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                [*KETANG, *words, "--versions", str(self.releases)], stderr=log
            )
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0

    def publish(self, version, **more):
        made, sha256 = archive_of(whole(self.wheels / version, version, **more), version)
        release = updates.Release(agent_release.target(version), made)
        updates.publish(self.depot.offline, self.depot.targets, self.depot.now, releases=[release])
        self.depot.carry(self.depot.now)
        return Config(agent=AgentChoice(version=version, sha256=sha256))

    @property
    def standing(self):
        return versions.standing(self.releases, VERSION)

    def runs(self, version):
        wait_for(lambda: (self.standing.current, self.standing.trial) == (version, None), version)


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path)
    with made.region.broker(), made.region.center():
        made.enroll()
        yield made


def test_the_agent_becomes_the_release_the_region_names_and_goes_back_at_its_word(home):
    with home.watched():
        home.place()
        said = home.publish("0.2.0")
        number = home.roll_out(home.signers.release("lan", Level.REGION, said))
        home.settled(ConfigState.COMMITTED)
        home.runs("0.2.0")
        with home.office() as office:
            office.roll_back(number, "li")
        home.runs(INSTALLED)
        wait_for(lambda: [one.version for one in home.shown().layers] == [2], "the undo")
        home.settled(ConfigState.COMMITTED)


def test_a_release_that_dies_gives_way_and_the_console_says_why(home):
    with home.watched():
        home.place()
        said = home.publish("0.2.0", added=DIES)
        home.roll_out(home.signers.release("lan", Level.REGION, said))
        shown = home.settled(ConfigState.ROLLED_BACK)
        assert shown.reason in {"agent_crashed", "crashed"}
        home.runs(INSTALLED)
        assert [one.version for one in home.standing.given_up] in (["0.2.0"], [])
