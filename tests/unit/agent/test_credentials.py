"""Which pair is shown, when the next is fetched, and that a school does not come at once."""

import ssl
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from ketang_agent.credentials import Credentials
from ketang_agent.enrol.files import Facts, Place, write_facts
from ketang_agent.uplink.client import UNREACHABLE, Broker, Connected, Lost
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


def credentials(place, jitter=lambda: 0.5):
    broker = Broker("::1", 8883, place.servers, place.identity, place.identity)
    return Credentials(broker, command=CHILD, jitter=jitter)


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
        one.step(now_s, 0)
        one.step(now_s, 300)
        one._child.process.wait()
        one.step(now_s, 300)
        assert one._not_before_s == 300 + hours * 3600


def test_without_facts_a_pair_never_renews(place):
    one = credentials(place)
    for boot_s in (0, 300, 10 * DAY_S):
        one.step(BEGIN_S + 10 * LIFE_S, boot_s)
        assert one._child is None


def begun(place):
    """As the service begins: the old pair is looked at, shown, and taken.

    It looks for a newer trust document as late as it may: no child stands in the way till then.
    """
    one = credentials(place, jitter=lambda: 1.0)
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
    one, boot_s, tried_s = begun(place), 0, []
    place.next.write_bytes(pair())
    while place.next.exists():
        one.step(BEGIN_S, boot_s)
        if one.untried:
            tried_s.append(boot_s)
            one.context()
            one.heard(Lost("refused"))
            one.context()  # the old pair
            one.connected()
        boot_s += 10
    assert tried_s == [0, 600, 1800]
    one.step(BEGIN_S + LIFE_S * 0.9, boot_s)
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
    one.step(BEGIN_S, 0)
    assert place.next.exists()
    one.step(BEGIN_S + LIFE_S, 10)
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


def starts(one, now_s, until_s, *, from_s=0, every_s=10):
    """Moments of the boot clock at which a child begins, and what for."""
    found, boot_s = [], from_s
    while boot_s <= until_s:
        before = one._child
        one.step(now_s, boot_s)
        if one._child is not None and one._child is not before:
            found.append((boot_s, "look" if one._child.looks else "renew"))
            one._child.process.wait()
        boot_s += every_s
    return found


GOOD = (sys.executable, "-c", "print('{}')")


def test_a_device_whose_clock_was_ahead_once_still_renews(place):
    tell(place)
    one = credentials(place, jitter=lambda: 0.0)
    ahead = starts(one, BEGIN_S + 20 * LIFE_S, 60)
    assert ahead == [(0, "renew")]
    again = starts(one, BEGIN_S + LIFE_S * 0.9, 2 * 3600, from_s=70)
    assert (1810, "renew") in again, "half an hour later by the boot clock, whatever the time says"


def test_a_certificate_of_days_to_come_is_due_but_is_not_asked_for_all_day(place):
    tell(place)
    one = Credentials(credentials(place)._broker, command=GOOD, jitter=lambda: 0.0)
    assert not one._is_due(BEGIN_S - DAY_S)
    assert one._is_due(BEGIN_S - DAY_S - 1)
    begun = [at for at, what in starts(one, BEGIN_S - 9 * DAY_S, 2 * DAY_S) if what == "renew"]
    assert begun == [0, DAY_S + 10]


@pytest.mark.parametrize(("expired", "most_s"), [(False, 300), (True, 60)])
def test_a_school_that_switches_on_does_not_renew_at_one_moment(place, expired, most_s):
    tell(place)
    now_s = BEGIN_S + (LIFE_S + 1 if expired else LIFE_S * 0.9)
    first = [
        starts(credentials(place, jitter=lambda drawn=drawn: drawn), now_s, 310)[0]
        for drawn in (0.0, 0.5, 1.0)
    ]
    assert first == [(0, "renew"), (most_s / 2, "renew"), (most_s, "renew")]


def test_a_centre_that_is_busy_is_asked_again_within_minutes(place):
    tell(place)
    busy = 'print(\'{"why": "too_many", "busy_s": 2}\'); raise SystemExit(1)'
    broker = credentials(place)._broker
    one = Credentials(broker, command=(sys.executable, "-c", busy), jitter=lambda: 0.0)
    assert starts(one, BEGIN_S + LIFE_S * 0.9, 900)[:3] == [
        (0, "renew"),
        (310, "renew"),
        (620, "renew"),
    ]


def test_a_connection_that_was_lost_at_once_was_one_and_the_pair_on_it_passes(place):
    tell(place)
    one = begun(place)
    place.next.write_bytes(pair())
    new = place.next.read_bytes()
    one.context()
    one.heard(Connected())
    one.heard(Lost("thrown out"))
    assert place.identity.read_bytes() == new
    assert not place.next.exists()


def test_the_old_pairs_connection_is_no_proof_of_the_new_one(place):
    tell(place)
    one = begun(place)
    old = place.identity.read_bytes()
    one.context()  # the old pair, for nothing else is there
    place.next.write_bytes(pair())
    one.heard(Connected())
    assert place.identity.read_bytes() == old


def test_a_pair_that_was_changed_since_it_was_shown_has_not_passed(place):
    tell(place)
    one = begun(place)
    old = place.identity.read_bytes()
    place.next.write_bytes(pair())
    one.context()
    place.next.write_bytes(pair())
    one.heard(Connected())
    assert place.identity.read_bytes() == old
    assert place.next.exists()


def test_a_broker_that_was_lost_before_the_trial_makes_its_failure_no_refusal(place):
    tell(place)
    one = begun(place)
    one.heard(Lost("gone"))
    place.next.write_bytes(pair())
    one.context()
    one.heard(Lost(UNREACHABLE))
    one.context()
    one.connected()
    assert one.untried


def test_whom_to_believe_is_looked_up_daily(place):
    tell(place)
    one = Credentials(credentials(place)._broker, command=GOOD, jitter=lambda: 0.5)
    assert starts(one, BEGIN_S, 3 * DAY_S, every_s=60) == [
        (2100, "look"),
        (2100 + DAY_S, "look"),
        (2100 + 2 * DAY_S, "look"),
    ]


def test_whom_to_believe_is_looked_up_after_three_failures_at_most_once_an_hour(place):
    tell(place)
    one = Credentials(credentials(place)._broker, command=GOOD, jitter=lambda: 0.0)
    begun = starts(one, BEGIN_S, 400)
    assert begun == [(300, "look")]
    boot_s = 400
    while boot_s < 2 * 3600:
        one.heard(Lost(UNREACHABLE))
        begun += starts(one, BEGIN_S, boot_s, from_s=boot_s)
        boot_s += 60
    assert begun == [(300, "look"), (3940, "look")]
    for _ in range(2):
        one.heard(Lost(UNREACHABLE))
    one.heard(Lost("Not authorized"))
    assert one._failures == 0, "a broker that answers is believed"


def test_another_authority_is_believed_at_the_next_connection(place):
    one = begun(place)
    before = one.context().get_ca_certs()
    other = make_authority("other CA", make_ec(), "servers", now=NOW, lasts=timedelta(days=30))
    place.servers.write_bytes(certificate_pem(other.certificate))
    (after,) = one.context().get_ca_certs()
    assert [after] != before
