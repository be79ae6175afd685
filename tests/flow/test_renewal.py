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
from tests.regions import DAY_MS, Region, enroll, now_ms

from ketang_agent import doctor
from ketang_agent import settings as agent_settings
from ketang_agent.enrol import enrolling, renewing, verifier
from ketang_agent.enrol.files import Place, read_facts, write_facts
from ketang_agent.enrol.matters import matter
from ketang_center import settings
from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.office import Office, Why
from ketang_center.enrolment.pacing import Pace
from ketang_center.enrolment.service import EnrolmentService
from ketang_center.registry.database import Registry
from ketang_center.service import center_id
from ketang_cli.local_broker import Kind, find_broker
from ketang_contract import kit
from ketang_contract.trust import Purpose, read_accepted
from ketang_provisioning import region as region_keys
from ketang_provisioning import trust_changes
from ketang_provisioning.certificates import certificate_pem, make_authority
from ketang_provisioning.keys import load_private, make_ec, private_pem

BROKERS = (pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS)
YEAR = timedelta(days=365)
AGENT = (
    "import sys, ketang_agent.service as service, ketang_agent.credentials as credentials;"
    "service._RENEW_LOOK_S = 0.5; credentials._FIRST_S = credentials._FIRST_EXPIRED_S = 0.5;"
    "credentials._FAILED_LOOK_SPREAD_S = 0.5;"
    "from ketang_cli.main import main; sys.exit(main(sys.argv[1:]))"
)
"""The agent as it is, but that it looks after its identity twice a second, and from the start."""


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
    then = enrolling.Clock(now_s=lambda: time.time() - days_ago * 86_400)
    with desk(region, days_ago):
        assert enrolling.enrol(place, asking, clock=then) == asset.device
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
        # the loss is told just after the refusal that it was
        wait_for(lambda: "identity.next_refused" in log() and "broker.lost" in log())
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


def second_servers_authority(region, overlap_s=trust_changes.OVERLAP_S):
    """A trust document that names another servers authority beside the first; that authority."""
    now, trust = datetime.now(UTC), region.center_folder / "trust.json"
    other = make_authority("Lanchuan servers CA 2", make_ec(), "servers", now=now, lasts=YEAR)
    now_s = int(now.timestamp())
    held = trust_changes.drafted(trust.read_bytes())
    added = region_keys.trusted_authority(other, Purpose.SERVERS_CA, now_s)
    changed = trust_changes.draft(trust_changes.rotate_authority(held, added, now_s, overlap_s))
    for holder in ("holder-1", "holder-2"):
        file = region.folder / holder / "root.key"
        key = load_private(file, region.passphrases[holder].encode())
        changed = trust_changes.sign(changed, key, held)
    (region.center_folder / "trust-1.json").write_bytes(trust.read_bytes())
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


@pytest.mark.parametrize("overlap_s", [trust_changes.OVERLAP_S, 0])
def test_a_device_that_slept_through_the_overlap_is_led_to_the_new_authority(region, overlap_s):
    place, device = enrolled(region, days_ago=80)
    _serve_with(region, second_servers_authority(region, overlap_s))
    with desk(region):
        assert renew(place)
    assert read_accepted(place.trust.read_bytes()).version == 2
    assert place.servers.read_text() == in_force(place)
    assert verifier.dates(place.next.read_bytes()).name == device


def in_force(place):
    document = read_accepted(place.trust.read_bytes())
    return document.certificates_pem(Purpose.SERVERS_CA, now_ms() // 1000)


def test_a_device_that_need_not_renew_is_led_as_well(region):
    place, _ = enrolled(region, days_ago=1)
    before = place.servers.read_bytes()
    with desk(region):
        assert not renewing.look(place, now_ms() // 1000), "nothing is new"
    _serve_with(region, second_servers_authority(region, 0))
    with desk(region):
        assert renewing.look(place, now_ms() // 1000)
    assert place.servers.read_bytes() != before
    assert not place.next.exists()


def test_a_stranger_that_shows_this_regions_documents_is_still_a_stranger(region):
    place, _ = enrolled(region, days_ago=80)
    now, before = datetime.now(UTC), place.servers.read_bytes()
    stranger = make_authority("Elsewhere", make_ec(), "servers", now=now, lasts=YEAR)
    _serve_with(region, stranger)
    with desk(region), pytest.raises(renewing.Unreachable, match="not from this region"):
        renew(place)
    second_servers_authority(region)  # a newer document does not make it one of us
    with desk(region), pytest.raises(renewing.Unreachable, match="not from this region"):
        renew(place)
    assert before in place.servers.read_bytes()
    assert not place.next.exists()


def test_a_kit_brings_a_newer_trust_document_to_a_device_that_is_in(region, tmp_path):
    place, device = enrolled(region, days_ago=1)
    second_servers_authority(region, 0)
    new = region.kit(tmp_path / "new-kit", region.code())
    done = enroll(place.folder, "--kit", str(new))
    assert (done.returncode, device in done.stdout) == (0, True), done.stderr
    assert read_accepted(place.trust.read_bytes()).version == 2
    assert place.servers.read_text() == in_force(place)


@pytest.mark.parametrize("again", [False, True])
def test_a_code_leads_a_device_to_the_new_authority(region, again):
    place, device = enrolled(region, days_ago=1)
    _serve_with(region, second_servers_authority(region, 0))
    with desk(region) as service:
        if again:
            with Registry(region.data_dir / "registry.db") as registry:
                audit = Audit(region.data_dir / "audit.db")
                office = Office(service.book, registry, audit, now_ms)
                office.throw_out(device, Why.STOCK, "operator")
                audit.close()
        words = "--code", region.code(), "--url", region.url, "--serial", "SN-S1-0001"
        done = enroll(place.folder, *words, *(["--again"] if again else []))
    assert (done.returncode, device in done.stdout) == (0, not again), done.stderr
    assert read_accepted(place.trust.read_bytes()).version == 2


@pytest.mark.mosquitto
def test_the_running_agent_finds_the_brokers_new_authority_by_itself(region):
    place, device = enrolled(region, days_ago=1)
    other = second_servers_authority(region, 0)
    _serve_with(region, other)
    _serve_with(region, other, "broker")
    both = region.folder / "both-ca.pem"
    clients = (region.center_folder / "clients-ca.pem").read_bytes()
    both.write_bytes(certificate_pem(other.certificate) + clients)
    (region.center_folder / "servers-ca.pem").write_bytes(certificate_pem(other.certificate))
    broker = find_broker(Kind.MOSQUITTO)
    with region.center(), region.broker(broker), agent(place) as (log, _):
        wait_for(lambda: stored(region, device) > 0)
        wait_for(lambda: "identity.trust_changed" in log())


# What the device knows of it.


@pytest.mark.parametrize(
    ("days_ago", "says"), [(100, "the running agent renews it"), (190, "--again with a new code")]
)
def test_an_identity_that_has_ended_is_not_reported_as_fine(region, tmp_path, days_ago, says):
    place, device = enrolled(region, days_ago=days_ago)
    done = enroll(place.folder, "--kit", str(region.kit(tmp_path / "kit", region.code())))
    assert done.returncode == 2
    assert says in done.stderr
    assert "enrolled as" not in done.stdout
    assert device in done.stderr


def test_a_device_that_was_thrown_out_says_so(region, tmp_path):
    place, device = enrolled(region, days_ago=80)
    with desk(region) as service:
        service.book.revoke(device, at_ms=now_ms(), why="lost", by="operator")
        with pytest.raises(renewing.NotRenewed, match="revoked"):
            renew(place)
    done = enroll(place.folder, "--kit", str(region.kit(tmp_path / "kit", region.code())))
    assert (done.returncode, done.stdout) == (2, "")
    assert "thrown it out" in done.stderr
    assert "--again" in done.stderr
    (place.folder / "data").mkdir()
    checks = doctor.examine(agent_settings.read(place.settings), datetime.now(UTC))
    (found,) = [one for one in checks if one.name == "identity"]
    assert found.verdict is doctor.Verdict.WRONG
    assert "--again" in found.to_do


def test_a_busy_centre_is_waited_for_within_the_childs_patience(region):
    place, _ = enrolled(region, days_ago=80)
    waits = []
    with desk(region) as service:
        service.desk._pace = Pace(1, lambda: sum(waits))
        service.desk._pace.wait_s("renew", "another")
        waiting = renewing.Waiting(sleep=waits.append, jitter=lambda: 0.5)
        assert renewing.renew(place, now_ms() // 1000, waiting=waiting)
        service.desk._pace.wait_s("renew", "a third")
        place.next.unlink()
        with pytest.raises(renewing.NotRenewed, match="too_many") as why:
            renewing.renew(place, now_ms() // 1000, waiting=replace(waiting, patience_s=0.5))
    assert len(waits) == 1
    assert why.value.retry_after_s > 0
    assert not matter(place, now_ms() // 1000), "that passes, and is nobody's worry"


def _serve_with(region, authority, server="center"):
    key, here = make_ec(), region.folder / server
    made = authority.issue_server(
        server, key.public_key(), (region.host,), now=datetime.now(UTC), lasts=YEAR
    )
    (here / f"{server}.pem").write_bytes(certificate_pem(made))
    (here / f"{server}.key").write_bytes(private_pem(key, None))


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
