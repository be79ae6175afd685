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
from ketang_provisioning.certificates import load_certificate

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

    def write(self, *serials, now=None, **options):
        now, self._number = now or datetime.now(UTC), self._number + 1
        raw = self.authority.clients.revocation_list(
            [(one, now) for one in serials], now=now, number=self._number, **options
        )
        self.crl.write_bytes(raw)

    def gets_in(self, name, identity):
        probe = self.scene.enter(name, identity)
        probe.leave()
        return probe.entered

    def is_out_in_time(self, name, identity):
        for _ in range(WITHIN_S * 4):
            if not self.gets_in(name, identity):
                return True
            self.scene.center.listen(0.25)
        return False


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
    yard.write(now=datetime.now(UTC) - timedelta(days=2))  # of before it was revoked
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
    yard.scene.center.listen(2.5)
    assert not yard.gets_in("panel-c", bad)
    assert yard.gets_in("panel-d", good) == (yard.broker.kind is Kind.NATS)
    yard.scene.fence()  # who is within stays
    yard.write(serial_of(bad))
    yard.scene.center.listen(1.5)
    assert yard.gets_in("panel-d", good)
    assert not yard.gets_in("panel-c", bad)


def test_a_device_that_is_within_is_thrown_out_and_hears_nothing_more(yard):
    scene = yard.scene
    device = scene.enter(
        "panel-c", identity := yard.papers.good("panel-c"), filters=[topics.of("panel-c", "dn/#")]
    )
    scene.center.say(topics.of("panel-c", "dn/desired"), b"kept", retain=True)
    assert device.heard(b"kept")
    yard.write(serial_of(identity))
    scene.center.listen(2.5)
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


def test_both_services_have_the_centres_rights_and_no_other_name(yard):
    assert set(brokers.SERVICES) == {"center_ingest", "center_check"}
    ingest = yard.scene.enter(brokers.SERVICE, filters=[topics.everything_up()])
    yard.scene.device.say(topics.of(DEVICE, UP), b"to both")
    assert ingest.heard(b"to both")
    assert yard.scene.center.heard(b"to both")
    ingest.say(topics.of(DEVICE, DN), b"from ingest")
    assert yard.scene.device.heard(b"from ingest")
