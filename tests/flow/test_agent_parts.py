"""A release of the agent on its whole way: published, served, fetched, laid out beside the others.

Keys, repository, centre, HTTPS and both children are the real ones; the release is a reduced one.
"""

import time
from datetime import UTC, datetime

import pytest
from tests.regions import Region
from tests.releases import archive_of, reduced
from tests.security.depots import Depot, serving

from ketang_agent import versions
from ketang_agent.clock import SystemClock
from ketang_agent.enrol import believing
from ketang_agent.enrol.files import Facts, Place, write_facts
from ketang_agent.remote.machine import Works
from ketang_agent.remote.parts import Bringing
from ketang_agent.remote.presence import Folders
from ketang_contract import agent_release
from ketang_contract.config import AgentChoice, Config
from ketang_provisioning import updates

PATIENCE_S = 120
IN_FORCE = Config(download_kbps=100_000)


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("agent-parts"))
    with serving(made):
        yield made


@pytest.fixture
def depot(region, tmp_path):
    return Depot(region, tmp_path, datetime.now(UTC))


@pytest.fixture
def folders(depot, region, tmp_path):
    place = Place(tmp_path / "identity")
    place.folder.mkdir()
    raw = (region.center_folder / "trust.json").read_bytes()
    believing.keep(place, raw, int(depot.now.timestamp()))
    write_facts(place, Facts(device="s1-pc-1", url=region.url, from_s=0, until_s=4_000_000_000))
    return Folders(
        identity=place.folder, data=place.folder / "data", versions=tmp_path / "versions"
    )


def publish(depot, folder, version, **more):
    made, sha256 = archive_of([reduced(folder, version, **more)], version)
    release = updates.Release(agent_release.target(version), made)
    updates.publish(depot.offline, depot.targets, depot.now, releases=[release])
    depot.carry(depot.now)
    return Config(agent=AgentChoice(version=version, sha256=sha256))


def bring(folders, candidate):
    """Step as the main loop does, until it is known how that ends; and why, where it is no."""
    clock, parts = SystemClock(), Bringing(folders, frozenset(), lambda: 0.0)
    deadline = time.monotonic() + PATIENCE_S
    while (works := parts.step(candidate, IN_FORCE, clock.now())) is Works.PENDING:
        assert time.monotonic() < deadline, parts.why
        time.sleep(0.05)
    return works, parts.why


def test_a_release_that_was_published_lies_beside_the_others_in_the_end(depot, folders, tmp_path):
    candidate = publish(depot, tmp_path, "0.2.0")
    assert bring(folders, candidate) == (Works.YES, "")
    assert versions.is_laid(folders.versions, "0.2.0", candidate.agent.sha256)


def test_a_layer_that_names_another_hash_than_was_published_ends_there(depot, folders, tmp_path):
    publish(depot, tmp_path, "0.2.0")
    other = Config(agent=AgentChoice(version="0.2.0", sha256="0" * 64))
    assert bring(folders, other) == (Works.NO, "wrong_content")


def test_a_release_that_nobody_has_published_yet_is_waited_for(depot, folders):
    """The configuration came before the list; the list says nothing against it."""
    nobodys = Config(agent=AgentChoice(version="0.3.0", sha256="0" * 64))
    clock, parts = SystemClock(), Bringing(folders, frozenset(), lambda: 0.0)
    deadline = time.monotonic() + PATIENCE_S
    while not parts.why:
        assert parts.step(nobodys, IN_FORCE, clock.now()) is Works.PENDING
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (parts.why, parts.step(nobodys, IN_FORCE, clock.now())) == ("no_target", Works.PENDING)
    parts.end()


def test_a_release_that_does_not_run_here_ends_there(depot, folders, tmp_path):
    candidate = publish(depot, tmp_path, "0.4.0", told="0.9.9")
    assert bring(folders, candidate) == (Works.NO, "does_not_run")
    assert versions.laid(folders.versions) == []
