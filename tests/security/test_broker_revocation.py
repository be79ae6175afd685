"""Revoked and thrown out, at both real brokers, proved by what is delivered."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract import topics
from ketang_provisioning import brokers, takeover
from ketang_provisioning.broker_probe import Address, Papers
from ketang_provisioning.broker_scene import DN, UP, Place, Scene
from ketang_provisioning.ca import ThrowawayAuthority
from ketang_provisioning.certificates import certificate_pem, load_certificate, make_authority
from ketang_provisioning.keys import make_ec
from ketang_provisioning.revocations import Revocations

WITHIN_S = 5
DEVICE, OTHER = "panel-a", "panel-b"


class Yard:
    def __init__(self, folder, kind, stack):
        self.authority = ThrowawayAuthority(folder / "keys")
        self.crl, self._number = folder / "clients.crl", 0
        self.write()
        self.broker = stack.enter_context(
            LocalBroker(
                folder / "broker",
                self.authority.server(),
                program=find_broker(kind),
                crl_file=self.crl,
            )
        )
        self.address = Address(self.broker.host, self.broker.port)
        self.papers = Papers(folder / "keys", self.authority.ca_file, self.authority.clients)
        place = Place(self.address, self.authority.ca_file)
        self.scene = Scene(place, self.papers, stack, DEVICE, OTHER, "panel-c")
        self.scene.open()

    def write(self, *serials, now=None, number=0, **options):
        now, self._number = now or datetime.now(UTC), self._number + 1
        raw = self.authority.clients.revocation_list(
            [(one, now) for one in serials], now=now, number=number or self._number, **options
        )
        self.crl.write_bytes(raw)

    def gets_in(self, name, identity):
        probe = self.scene.enter(name, identity)
        probe.leave()
        return probe.entered

    def in_time(self, holds):
        for _ in range(WITHIN_S * 4):
            if holds():
                return True
            self.scene.center.listen(0.25)
        return False

    def is_out_in_time(self, name, identity):
        return self.in_time(lambda: not self.gets_in(name, identity))


@pytest.fixture(params=[pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS])
def yard(request, tmp_path):
    with ExitStack() as stack:
        yield Yard(tmp_path, request.param, stack)


def serial_of(identity):
    return load_certificate(identity.certificate_file).serial_number


def test_a_revoked_certificate_is_out_in_time_and_whatever_becomes_of_the_list(yard):
    bad, good = yard.papers.good("panel-c"), yard.papers.good("panel-d")
    assert yard.gets_in("panel-c", bad)
    yard.write(serial_of(bad))
    assert yard.is_out_in_time("panel-c", bad)
    older = yard.crl.read_bytes()

    def holds():
        yard.scene.center.listen(1.5)
        assert not yard.gets_in("panel-c", bad)
        assert yard.gets_in("panel-d", good)
        yard.scene.fence()  # those within hear and are heard

    yard.crl.write_text("junk")
    holds()
    yard.crl.unlink()
    holds()
    stranger = ThrowawayAuthority(yard.crl.parent / "elsewhere")
    yard.crl.write_bytes(stranger.clients.revocation_list([], now=datetime.now(UTC), number=99))
    holds()
    yard.write(number=1)  # of before it was revoked, though it says it is of today
    holds()
    yard.crl.unlink()
    yard.broker.restart()
    assert not yard.gets_in("panel-c", bad), "the broker keeps a copy of its own"
    assert yard.gets_in("panel-d", good)
    yard.crl.write_bytes(older)
    assert not yard.gets_in("panel-c", bad)


def test_a_list_that_has_ended_refuses_nobody_behind_nats_and_everybody_new_at_mosquitto(yard):
    """Mosquitto's part is OpenSSL's rule; the list is made daily and lasts 30 days."""
    bad, good = yard.papers.good("panel-c"), yard.papers.good("panel-d")
    yard.write(serial_of(bad), lasts=timedelta(seconds=1))
    assert yard.is_out_in_time("panel-c", bad)
    yard.scene.center.listen(1.5)  # it has ended by now
    assert not yard.gets_in("panel-c", bad)
    assert yard.gets_in("panel-d", good) == (yard.broker.kind is Kind.NATS)
    yard.scene.fence()  # who is within stays
    yard.write(serial_of(bad))
    yard.scene.center.listen(1.5)
    assert yard.in_time(lambda: yard.gets_in("panel-d", good))
    assert not yard.gets_in("panel-c", bad)


def test_a_device_that_is_within_is_thrown_out_and_hears_nothing_more(yard):
    scene = yard.scene
    device = scene.enter(
        "panel-c", identity := yard.papers.good("panel-c"), filters=[topics.of("panel-c", "dn/#")]
    )
    scene.center.say(topics.of("panel-c", DN), b"kept", retain=True)
    assert device.heard(b"kept")
    yard.write(serial_of(identity))
    # looked at from outside: a try that gets in would throw it out
    assert yard.in_time(lambda: yard.broker._revocations.is_revoked(serial_of(identity)))
    scene.center.listen(1)
    assert not yard.gets_in("panel-c", identity)
    scene.center.say(topics.of("panel-c", DN), b"revoked, and it still hears")
    assert device.heard(b"revoked, and it still hears"), "no broker drops who is within"
    said = iter(b"marker %d" % at for at in range(99))

    def probe():
        scene.center.say(topics.of("panel-c", DN), next(said))

    assert takeover.evict(
        yard.address, yard.authority.ca_file, yard.papers.good("panel-c"), "panel-c", probe
    )
    device.wait(lambda: not device.alive)
    assert not device.alive
    scene.center.say(topics.of("panel-c", DN), b"secret")
    scene.fence()
    assert not [one for one in device.payloads() if one.startswith((b"marker", b"secret"))]
    scene.other.say(topics.of(OTHER, UP), b"on")
    assert scene.center.heard(b"on")


def test_an_eviction_that_proves_nothing_says_so(yard):
    arguments = (yard.authority.ca_file, yard.papers.good(DEVICE), DEVICE)
    assert not takeover.evict(yard.address, *arguments, lambda: None, patience_s=1)
    unheard = Address(yard.address.host, 1)
    assert not takeover.evict(unheard, *arguments, lambda: None, patience_s=0.3)
    foreign = (yard.authority.ca_file, yard.papers.foreign(OTHER), OTHER)
    assert not takeover.evict(
        yard.address,
        *foreign,
        lambda: yard.scene.center.say(topics.of(OTHER, DN), b"x"),
        patience_s=1,
    )
    yard.scene.other.listen(0.1)
    assert yard.scene.other.alive


def test_the_centre_hears_everything_and_the_check_its_own_channel(yard):
    assert set(brokers.SERVICES) == {"center_ingest", "center_check"}
    ingest = yard.scene.enter(brokers.SERVICE, filters=[topics.everything_up()])
    yard.scene.device.say(topics.of(DEVICE, UP), b"to both")
    assert ingest.heard(b"to both")
    assert yard.scene.center.heard(b"to both")
    ingest.say(topics.of(DEVICE, DN), b"from ingest")
    assert yard.scene.device.heard(b"from ingest")
    yard.scene.device.say(topics.of(DEVICE, "up/telemetry"), b"for the centre alone")
    assert ingest.heard(b"for the centre alone")
    spying = yard.scene.enter(brokers.CHECK, filters=[topics.everything_up()])
    yard.scene.device.say(topics.of(DEVICE, "up/telemetry"), b"again")
    assert ingest.heard(b"again")
    spying.say(topics.of(DEVICE, "dn/desired"), b"forged")
    ingest.say(topics.of(DEVICE, DN), b"fence")
    assert yard.scene.device.heard(b"fence")
    assert b"forged" not in yard.scene.device.payloads()
    spying.listen(0.5)
    assert spying.payloads() == []


NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
AHEAD = NOW + timedelta(days=730)


class Kept:
    """A broker's copy of the list, without a broker."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = make_authority(
            "clients CA", make_ec(), "clients", now=NOW, lasts=timedelta(days=3650)
        )
        (folder / "ca.pem").write_bytes(certificate_pem(self.authority.certificate))
        self.revocations = self.again()

    def again(self):
        return Revocations(self.folder / "crl", self.folder / "ca.pem", self.folder / "copy")

    def write(self, number, now, *serials):
        raw = self.authority.revocation_list(
            [(one, now) for one in serials], now=now, number=number
        )
        (self.folder / "crl").write_bytes(raw)


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


def test_a_list_of_a_clock_that_was_ahead_gives_way_when_the_clocks_are_right(kept):
    kept.write(5, AHEAD)
    kept.revocations.open(AHEAD)
    kept.write(6, NOW, 77)
    assert kept.revocations.poll(NOW)
    assert kept.revocations.is_revoked(77)


def test_a_list_from_the_future_gives_way_to_one_with_a_lower_number_after_a_restart_too(kept):
    kept.write(500, AHEAD)
    kept.revocations.open(AHEAD)
    kept.write(6, NOW, 77)
    again = kept.again()
    again.open(NOW)
    assert again.is_revoked(77)


def test_a_list_from_the_future_waits_until_its_time_has_come(kept):
    kept.write(5, NOW)
    kept.revocations.open(NOW)
    kept.write(6, NOW + timedelta(hours=3), 77)
    assert not kept.revocations.poll(NOW)
    assert kept.revocations.poll(NOW + timedelta(hours=3))
    assert kept.revocations.is_revoked(77)


def test_numbers_alone_say_which_list_is_newer(kept):
    """The centre's clock was set back by days, and it threw somebody out."""
    kept.write(5, NOW, 76)
    kept.revocations.open(NOW)
    kept.write(6, NOW - timedelta(days=3), 76, 77)
    assert kept.revocations.poll(NOW)
    assert kept.revocations.is_revoked(77)
    kept.write(5, NOW + timedelta(minutes=5), 76)
    assert not kept.revocations.poll(NOW + timedelta(minutes=5))
    assert kept.revocations.is_revoked(77)
