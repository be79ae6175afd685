"""Certificates that end: renewed by the agent that runs, by the rules, over real brokers.

Time is made by a centre whose clock was behind when the device enrolled; the device's is right.
"""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.flow.test_enrolment import stored, wait_for
from tests.regions import DAY_MS, Region, now_ms

from ketang_agent.enrol import enrolling, renewing, verifier
from ketang_agent.enrol.files import Place, read_facts, write_facts
from ketang_center import settings
from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.office import Office
from ketang_center.enrolment.service import EnrolmentService
from ketang_center.registry.database import Registry
from ketang_center.service import center_id
from ketang_cli.local_broker import Kind, find_broker
from ketang_contract import kit
from ketang_contract.trust import Purpose
from ketang_provisioning import region as region_keys
from ketang_provisioning import trust_changes
from ketang_provisioning.certificates import certificate_pem, make_authority
from ketang_provisioning.keys import load_private, make_ec, private_pem

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)
YEAR = timedelta(days=365)
AGENT = (
    "import sys, ketang_agent.service as service;"
    "service._RENEW_LOOK_S = 0.5;"
    "from ketang_cli.main import main; sys.exit(main(sys.argv[1:]))"
)
"""The agent as it is, but that it looks after its identity twice a second."""


@contextmanager
def desk(region, days_ago=0):
    """Run the centre's enrolment service with a clock that is so many days behind."""
    chosen = settings.read(region.settings(per_s=1000))
    service = EnrolmentService(
        chosen.enrolment,
        region.data_dir,
        center_id(chosen),
        clock=lambda: now_ms() - days_ago * DAY_MS,
    )
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        wait_for(lambda: service.port)
        yield service
    finally:
        service.stop()
        thread.join()
        service.close()


@pytest.fixture
def region(tmp_path):
    return Region(tmp_path)


def enrolled(region, *, days_ago):
    """A device that enrolled so many days ago, its certificate good for 90."""
    (asset,) = region.register(1)
    code = region.code()
    place = Place(region.device_folder(region.folder.parent / "device"))
    asking = enrolling.Asking(
        kit=kit.Line(region.url, code), fingerprint=region.fingerprint, serial=asset.serial
    )
    with desk(region, days_ago):
        assert enrolling.enrol(place, asking) == asset.device
    return place, asset.device


def certificates(region, device):
    with Book(region.data_dir / "enrolment.db") as book:
        return book.certificates_of(device)


@contextmanager
def agent(place):
    """Run the agent; yields how to read its log, and itself."""
    file = place.folder / "agent.log"
    words = "agent", "run", "--settings", str(place.settings)
    with file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", AGENT, *words], stderr=log)
        try:
            yield (lambda: file.read_text("utf-8")), process
        finally:
            process.terminate()
            process.wait(timeout=30)


def renew(place):
    return renewing.renew(place, now_ms() // 1000)


@pytest.mark.parametrize("kind", BROKERS)
def test_the_running_agent_renews_and_swaps_only_once_the_new_pair_has_connected(region, kind):
    place, device = enrolled(region, days_ago=80)
    old = place.identity.read_bytes()
    broker = region.broker(find_broker(kind))
    with region.center(), agent(place) as (log, process):
        wait_for(place.next.exists)
        assert len(certificates(region, device)) == 2
        time.sleep(1)
        assert place.identity.read_bytes() == old, "nothing has connected yet"
        with broker:
            wait_for(lambda: place.identity.read_bytes() != old)
            assert not place.next.exists()
            wait_for(lambda: stored(region, device) > 0)
            held = verifier.dates(place.identity.read_bytes())
            wait_for(lambda: read_facts(place).until_s == held.until_s)
            maps = Path(f"/proc/{process.pid}/maps").read_text("ascii")
            assert not re.search("cryptography|pydantic_core", maps)
    assert "identity.renewed" in log()
    assert held.until_s > now_ms() // 1000 + 89 * 86_400
    assert not place.new_key.exists()
    assert len(certificates(region, device)) == 2, "one new certificate"


def foreign_pair(region, device):
    """A certificate of this name, from an authority of another region."""
    now, key = datetime.now(UTC), make_ec()
    other = make_authority("Elsewhere clients CA", make_ec(), "clients", now=now, lasts=YEAR)
    made = other.issue_client(device, key.public_key(), now=now, lasts=YEAR)
    return private_pem(key, None) + certificate_pem(made)


@pytest.mark.parametrize("kind", BROKERS)
def test_a_next_pair_that_the_broker_refuses_leaves_the_device_on_the_old_one(region, kind):
    place, device = enrolled(region, days_ago=1)
    old = place.identity.read_bytes()
    place.next.write_bytes(foreign_pair(region, device))
    with region.center(), region.broker(find_broker(kind)), agent(place) as (log, _):
        wait_for(lambda: "identity.next_refused" in log())
        lost = log().count("broker.lost")
        time.sleep(2)
        wait_for(lambda: stored(region, device) > 0)
        assert log().count("identity.next_refused") == 1, "it does not knock again and again"
        assert log().count("broker.lost") == lost
    assert place.identity.read_bytes() == old


@pytest.mark.mosquitto
def test_a_next_pair_that_was_revoked_leaves_the_device_on_the_old_one(region):
    place, device = enrolled(region, days_ago=80)
    with desk(region):
        renew(place)
    number = f"{x509.load_pem_x509_certificate(place.next.read_bytes()).serial_number:x}"
    with Book(region.data_dir / "enrolment.db") as book:
        book.rows.put(replace(book.certificate(number), revoked_ms=now_ms()))
    old = place.identity.read_bytes()
    with region.center(), region.broker(find_broker(Kind.MOSQUITTO)), agent(place) as (log, _):
        wait_for(lambda: "identity.next_refused" in log())
        wait_for(lambda: stored(region, device) > 0)
    assert place.identity.read_bytes() == old


def test_the_same_renewal_asked_twice_gets_the_same_certificate(region):
    place, device = enrolled(region, days_ago=80)
    with desk(region):
        renew(place)
        first = place.next.read_bytes()
        place.new_key.write_bytes(verifier.key_of(first))
        place.next.unlink()
        renew(place)
    assert place.next.read_bytes() == first
    assert len(certificates(region, device)) == 2


def test_an_expired_certificate_renews_by_itself_for_ninety_days(region):
    place, device = enrolled(region, days_ago=179)
    assert read_facts(place).until_s < now_ms() // 1000 - 88 * 86_400
    with desk(region):
        assert renew(place)
    assert len(certificates(region, device)) == 2


def test_one_that_expired_longer_ago_waits_for_a_person(region):
    place, device = enrolled(region, days_ago=181)
    with desk(region) as service:
        for _ in range(2):
            with pytest.raises(renewing.NotRenewed, match="expired_too_long"):
                renew(place)
        assert len(certificates(region, device)) == 1
        (waits,) = service.book.waiting()
        with Registry(region.data_dir / "registry.db") as registry:
            audit = Audit(region.data_dir / "audit.db")
            Office(service.book, registry, audit, now_ms).approve(waits.no, "operator")
            audit.close()
        assert renew(place), "the key that was asked for is the one that gets in"
    assert len(certificates(region, device)) == 2


def test_a_revoked_one_never_renews(region):
    place, device = enrolled(region, days_ago=80)
    with desk(region) as service:
        service.book.revoke(device, at_ms=now_ms(), why="lost", by="operator")
        with pytest.raises(renewing.NotRenewed, match="revoked"):
            renew(place)
    assert not place.next.exists()


def test_the_child_says_in_one_line_why_it_did_not_renew(region):
    place, _ = enrolled(region, days_ago=80)
    child = subprocess.run(
        [sys.executable, "-m", "ketang_agent.enrol.renewing", str(place.folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (child.returncode, json.loads(child.stdout)["why"]) == (1, "unreachable")


def second_servers_authority(region):
    """A trust document that names another servers authority beside the first; that authority."""
    now, trust = datetime.now(UTC), region.center_folder / "trust.json"
    other = make_authority("Lanchuan servers CA 2", make_ec(), "servers", now=now, lasts=YEAR)
    now_s = int(now.timestamp())
    held = trust_changes.drafted(trust.read_bytes())
    added = region_keys.trusted_authority(other, Purpose.SERVERS_CA, now_s)
    changed = trust_changes.draft(trust_changes.rotate_authority(held, added, now_s))
    for holder in ("holder-1", "holder-2"):
        file = region.folder / holder / "root.key"
        key = load_private(file, region.passphrases[holder].encode())
        changed = trust_changes.sign(changed, key, held)
    trust.write_bytes(changed)
    return other


def test_a_second_authority_for_servers_arrives_with_a_renewal(region):
    place, device = enrolled(region, days_ago=80)
    other = second_servers_authority(region)
    with desk(region):
        assert renew(place)
    pems = place.servers.read_bytes()
    assert len(x509.load_pem_x509_certificates(pems)) == 2, "the overlap"
    assert verifier.dates(place.next.read_bytes()).name == device
    _serve_with(region, other)
    place.next.unlink()
    with desk(region):
        assert renew(place), "the centre now shows a certificate of the second authority"


def test_a_device_that_slept_through_the_overlap_is_told_what_is_wrong(region):
    place, _ = enrolled(region, days_ago=80)
    _serve_with(region, second_servers_authority(region))
    with desk(region), pytest.raises(renewing.Unreachable, match="not from this region"):
        renew(place)


def _serve_with(region, authority):
    key, here = make_ec(), region.center_folder
    made = authority.issue_server(
        "center", key.public_key(), (region.host,), now=datetime.now(UTC), lasts=YEAR
    )
    (here / "center.pem").write_bytes(certificate_pem(made))
    (here / "center.key").write_bytes(private_pem(key, None))


def test_a_renewal_goes_where_the_device_enrolled_and_to_no_other_region(region, tmp_path):
    place, device = enrolled(region, days_ago=80)
    elsewhere = Region(tmp_path / "elsewhere")
    facts = read_facts(place)
    write_facts(
        place,
        type(facts)(device=device, url=elsewhere.url, from_s=facts.from_s, until_s=facts.until_s),
    )
    with desk(elsewhere), pytest.raises(renewing.Unreachable, match="not from this region"):
        renew(place)
