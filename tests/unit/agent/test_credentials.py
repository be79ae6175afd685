"""Which pair is shown, when the next is fetched, and that a school does not come at once."""

import ssl
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from ketang_agent.credentials import Credentials
from ketang_agent.enrol.files import Facts, Place, write_facts
from ketang_agent.uplink.client import Broker
from ketang_provisioning.certificates import certificate_pem, make_authority
from ketang_provisioning.keys import make_ec, private_pem

DAY_S = 86_400
BEGIN_S = 1_800_000_000
LIFE_S = 90 * DAY_S
CHILD = (sys.executable, "-c", "raise SystemExit(1)")
NOW = datetime.now(UTC)
AUTHORITY = make_authority("some CA", make_ec(), "clients", now=NOW, lasts=timedelta(days=30))


def pair():
    key = make_ec()
    made = AUTHORITY.issue_client("d-1", key.public_key(), now=NOW, lasts=timedelta(days=9))
    return private_pem(key, None) + certificate_pem(made)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.identity.write_bytes(pair())
    made.servers.write_bytes(certificate_pem(AUTHORITY.certificate))
    return made


def tell(place, device="d-1"):
    write_facts(
        place,
        Facts(device=device, url="https://x", from_s=BEGIN_S, until_s=BEGIN_S + LIFE_S),
    )


def credentials(place, **more):
    broker = Broker("::1", 8883, place.servers, place.identity, place.identity)
    return Credentials(broker, command=CHILD, **more)


def due_s(one):
    """The hour in which it first wants a new certificate."""
    at_s = BEGIN_S + LIFE_S * 0.66
    while not one._is_due(at_s):
        at_s += 3600
    return at_s


def test_two_hundred_devices_of_one_minute_renew_over_days(tmp_path):
    hours = []
    for number in range(200):
        place = Place(tmp_path / str(number))
        place.folder.mkdir()
        tell(place, f"s1-pc-{number}")
        hours.append(due_s(credentials(place)))
    assert min(hours) >= BEGIN_S + LIFE_S * 2 / 3
    assert max(hours) <= BEGIN_S + LIFE_S * 0.72 + 3600
    assert max(hours) - min(hours) > 4 * DAY_S
    assert max(Counter(hours).values()) <= 10


@pytest.mark.parametrize(("expired", "least_h", "most_h"), [(False, 3, 9), (True, 0.5, 1.5)])
def test_what_failed_is_tried_again_at_a_moment_of_its_own(place, expired, least_h, most_h):
    tell(place)
    now_s = BEGIN_S + (LIFE_S + 1 if expired else LIFE_S * 0.9)
    for drawn, hours in ((0.0, least_h), (1.0, most_h)):
        one = credentials(place, jitter=lambda drawn=drawn: drawn)
        one.step(now_s)
        one._child.wait()
        one.step(now_s)
        assert one._not_before_s == now_s + hours * 3600


def test_without_facts_a_pair_never_renews(place):
    one = credentials(place)
    one.step(BEGIN_S + 10 * LIFE_S)
    assert one._child is None


def begun(place):
    """As the service begins: the old pair is looked at, shown, and taken."""
    one = credentials(place)
    one.context()
    one.context()
    one.connected()
    return one


def test_a_renewed_pair_is_swapped_only_once_it_has_connected(place):
    tell(place)
    one, old = begun(place), place.identity.read_bytes()
    place.next.write_bytes(pair())
    new = place.next.read_bytes()
    assert one.untried
    one.context()
    assert place.identity.read_bytes() == old
    assert not one.untried, "it is being tried"
    one.connected()
    assert place.identity.read_bytes() == new
    assert not place.next.exists()


def test_a_refused_pair_is_tried_ever_more_seldom_and_given_up(place):
    tell(place)
    one, now_s, tried_s = begun(place), BEGIN_S, []
    place.next.write_bytes(pair())
    while place.next.exists():
        one.step(now_s)
        if one.untried:
            tried_s.append(now_s - BEGIN_S)
            one.context()  # refused: nothing connects
            one.context()  # the old pair
            one.connected()
        now_s += 10
    assert tried_s == [0, 600, 1800]
    one.step(now_s)
    assert one._child is None, "another one is asked for hours later"


def test_a_broker_that_was_away_is_no_refusal(place):
    tell(place)
    place.next.write_bytes(pair())
    one = credentials(place)
    for _ in range(12):
        one.context()  # nobody answers
    one.context()
    if one._on_trial:
        one.context()
    one.connected()
    assert one.untried, "the new pair is tried at once, now that the broker is there"


def test_a_pair_in_vain_is_given_up_only_once_the_old_one_has_expired(place):
    tell(place)
    place.next.write_bytes(pair())
    one = credentials(place)
    for _ in range(100):
        one.context()
    one.step(BEGIN_S)
    assert place.next.exists()
    one.step(BEGIN_S + LIFE_S)
    assert not place.next.exists()


def test_a_next_pair_that_is_no_pair_leaves_the_old_one(place):
    one = begun(place)
    place.next.write_bytes(b"half a key")
    assert one.untried
    one.context()
    one.connected()
    assert place.identity.exists()


def test_a_pair_that_is_no_pair_from_the_start_is_told(place):
    place.identity.write_bytes(b"nothing")
    with pytest.raises(ssl.SSLError):
        credentials(place).context()


def test_once_it_worked_a_lost_file_leaves_the_last_one_in_use(place):
    one = begun(place)
    place.identity.unlink()
    assert one.context() is not None
