"""Nobody else gets in at the broker: each way that was thought of, tried at both real brokers.

An attack is refused when nothing it sent or asked for is delivered, not when a broker says so; and
it must stand in the broker's ``refusals.jsonl`` under its right name.
"""

import secrets
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract import topics
from ketang_contract.errors import Refused
from ketang_provisioning import broker_check, broker_log, brokers
from ketang_provisioning.broker_log import What
from ketang_provisioning.broker_probe import Address, Papers, Probe, Will
from ketang_provisioning.broker_scene import DN, UP, Place, Scene
from ketang_provisioning.ca import ThrowawayAuthority
from ketang_provisioning.certificates import load_certificate

PATIENCE_S = 30
INGEST = brokers.SERVICE
EVERYTHING = ("kt/v1/+/+/dn/#", topics.everything_up(), "#")


class Battlefield:
    """A broker with a scene on it, a running centre beside it, and its refusals."""

    def __init__(self, folder, kind, stack):
        self.authority = ThrowawayAuthority(folder / "keys")
        self.kind, self.folder = kind, folder
        self._crl, self._revoked = folder / "clients.crl", []
        self._write_crl()
        self.broker = stack.enter_context(
            LocalBroker(
                folder / "broker",
                self.authority.server(),
                program=find_broker(kind),
                crl_file=self._crl,
            )
        )
        self.address = Address(self.broker.host, self.broker.port)
        papers = Papers(folder / "keys", self.authority.ca_file, self.authority.clients)
        place = Place(self.address, self.authority.ca_file)
        self.scene = Scene(place, papers, stack, "panel-a", "panel-b", "panel-c")
        self.scene.open()
        self.ingest = self.scene.enter(INGEST, filters=[topics.everything_up()])
        self._position = None

    def revoke(self, identity):
        self._revoked.append(load_certificate(identity.certificate_file).serial_number)
        self._write_crl()

    def news(self):
        events, self._position = broker_log.follow(self.broker.refusals, self._position)
        return events

    def counted(self, what):
        """Wait until a refusal of this kind is written down; everything that was."""
        deadline, events = time.monotonic() + PATIENCE_S, []
        while time.monotonic() < deadline:
            events += self.news()
            if any(one.what is what for one in events):
                break
            self.scene.center.listen(0.02)
        return events

    def _write_crl(self):
        now = datetime.now(UTC)
        self._crl.write_bytes(
            self.authority.clients.revocation_list(
                [(one, now) for one in self._revoked], now=now, number=len(self._revoked) + 1
            )
        )


@pytest.fixture(
    scope="module", params=[pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS]
)
def field(request, tmp_path_factory):
    with ExitStack() as stack:
        yield Battlefield(tmp_path_factory.mktemp(request.param), request.param, stack)


@contextmanager
def visit(field, *words, **options):
    """Come in and leave: NATS turns away who keeps replacing his own connection."""
    probe = field.scene.enter(*words, **options)
    yield probe
    probe.leave()


def came_in(probe):
    return "was taken in" if probe.entered else ""


def no_certificate(field):
    with Probe(field.address, field.authority.ca_file, None, "panel-c") as probe:
        return came_in(probe)


def foreign(field):
    return came_in(field.scene.enter("panel-c", field.scene.papers.foreign("panel-c")))


def expired(field):
    return came_in(field.scene.enter("panel-c", field.scene.papers.expired("panel-c")))


def servers_certificate(field):
    return came_in(field.scene.enter("panel-c", field.authority.server("center_web")))


def revoked(field):
    identity = field.scene.papers.good("panel-c")
    before = field.scene.enter("panel-c", identity)
    assert before.entered
    before.leave()
    field.revoke(identity)
    until = time.monotonic() + PATIENCE_S
    while True:
        after = field.scene.enter("panel-c", identity)
        if not after.entered or time.monotonic() > until:
            return came_in(after)
        after.leave()  # as in ``visit``
        field.scene.center.listen(0.25)


def plain_http(field):
    with socket.create_connection((field.address.host, field.address.port), 2) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
        link.settimeout(2)
        try:
            return "answered" if link.recv(4) == b"HTTP" else ""
        except OSError:
            return ""


def says(target, channel, *, retain=False):
    def attack(field):
        scene = field.scene
        return scene.spoken(scene.other, topics.of(target, channel), retain=retain)

    return attack


def asks(*filters):
    def attack(field):
        with visit(field, "panel-c", filters=filters) as spy:
            assert spy.entered
            return field.scene.overheard([spy])

    return attack


def will(*, retain):
    def attack(field):
        last = secrets.token_bytes(8)
        dying = field.scene.enter("panel-c", will=Will(topics.of("panel-a", UP), last, retain))
        assert dying.entered
        dying.die()
        field.scene.fence()
        field.scene.center.subscribe_again()
        return "was delivered" if last in field.scene.center.payloads() else ""

    return attack


def takes_over(wanted):
    def attack(field):
        scene = field.scene
        with visit(field, "panel-c", client_id=wanted, filters=EVERYTHING) as thief:
            heard = scene.overheard([thief])
        field.ingest.listen(0.2)
        stayed = all(one.alive for one in (scene.center, scene.device, field.ingest))
        return heard if stayed else f"{wanted} was thrown out"

    return attack


def is_named(name):
    def attack(field):
        scene = field.scene
        with visit(field, name, scene.papers.odd(name), filters=EVERYTHING) as odd:
            spoken = scene.spoken(odd, topics.of("panel-a", UP), topics.of("panel-a", DN))
            return scene.overheard([odd]) or spoken

    return attack


def wrong_shard(field):
    topic = broker_check.wrong_shard("panel-b")
    delivered = field.scene.spoken(field.scene.other, topic)
    if field.kind is Kind.MOSQUITTO:
        assert delivered, "its patterns cannot ask for hash(id)"
        with pytest.raises(Refused, match="wrong_shard"):
            topics.parse(topic)  # so the centre does
        return ""
    return delivered


def oversized(field):
    scene = field.scene
    large = b"x" * (brokers.MOST_BYTES + 1)
    scene.other.say(topics.of("panel-b", UP), large)
    assert scene.other.wait(lambda: not scene.other.alive)
    scene.other = scene.enter("panel-b", filters=[topics.of("panel-b", "dn/#")])
    scene.fence()
    return "was delivered" if large in scene.center.payloads() else ""


@dataclass(frozen=True)
class Attack:
    """``mosquitto`` and ``nats``: how each counts it; None where it cannot, and ``why`` not."""

    name: str
    attempt: object
    mosquitto: What | None
    nats: What | None
    why: str = ""


VERIFY = "mosquitto logs every certificate it refuses as 'certificate verify failed'"
RENAMED = "mosquitto takes the certificate's name for the client id, and says nothing"
ATTACKS = (
    Attack("no certificate", no_certificate, What.NO_CERTIFICATE, What.NO_CERTIFICATE),
    Attack("foreign CA", foreign, What.BAD_CERTIFICATE, What.FOREIGN_CERTIFICATE, VERIFY),
    Attack("expired", expired, What.BAD_CERTIFICATE, What.EXPIRED_CERTIFICATE, VERIFY),
    Attack("revoked", revoked, What.BAD_CERTIFICATE, What.REVOKED_CERTIFICATE, VERIFY),
    Attack(
        "a server's certificate",
        servers_certificate,
        What.BAD_CERTIFICATE,
        What.WRONG_CERTIFICATE,
        VERIFY,
    ),
    Attack("no TLS", plain_http, What.NOT_TLS, None, "nats-server logs nothing of it"),
    *(
        Attack(name, says(target, channel, retain=kept), *[What.FORBIDDEN_PUBLISH] * 2)
        for name, target, channel, kept in (
            ("publish as another", "panel-a", UP, False),
            ("retained as another", "panel-a", UP, True),
            ("publish to another", "panel-a", DN, False),
            ("publish to itself as the centre", "panel-b", DN, False),
        )
    ),
    *(
        Attack(f"subscribe to {one}", asks(one), *[What.FORBIDDEN_SUBSCRIBE] * 2)
        for one in (
            topics.of("panel-a", "dn/#"),
            topics.of("panel-a", "up/#"),
            "kt/v1/+/+/dn/#",
            "#",
            "+/#",
            "$SYS/#",
            "$share/g/kt/v1/+/+/dn/#",
        )
    ),
    Attack("will of another", will(retain=False), *[What.FORBIDDEN_PUBLISH] * 2),
    Attack("retained will of another", will(retain=True), *[What.FORBIDDEN_PUBLISH] * 2),
    # what it subscribes to is counted even where its attempt at another's id is not
    *(
        Attack(
            f"takeover of {one}",
            takes_over(one),
            What.FORBIDDEN_SUBSCRIBE,
            What.TAKEOVER_TRIED,
            RENAMED,
        )
        for one in ("panel-a", INGEST, brokers.CHECK)
    ),
    *(
        Attack(f"client id {one!r}", takes_over(one), What.FORBIDDEN_SUBSCRIBE, counted, RENAMED)
        for one, counted in (
            ("+", What.TAKEOVER_TRIED),
            ("#", What.TAKEOVER_TRIED),
            ("a/b", What.TAKEOVER_TRIED),
            (">", What.BAD_CLIENT),
            ("*", What.BAD_CLIENT),
            ("a b", What.BAD_CLIENT),
        )
    ),
    *(
        Attack(f"named {one!r}", is_named(one), What.UNKNOWN_NAME, counted)
        for one, counted in (
            ("+", What.UNKNOWN_NAME),
            ("#", What.UNKNOWN_NAME),
            ("panel/a", What.UNKNOWN_NAME),
            ("*", What.BAD_CLIENT),
            (">", What.BAD_CLIENT),
            ("panel.a", What.BAD_CLIENT),
            ("center_other", What.UNKNOWN_NAME),
            ("PANEL-A", What.UNKNOWN_NAME),
        )
    ),
    Attack(
        "another shard",
        wrong_shard,
        None,
        What.FORBIDDEN_PUBLISH,
        "mosquitto's patterns cannot ask for hash(id): delivered, and refused by the centre",
    ),
    Attack("oversized", oversized, What.OVERSIZED, What.OVERSIZED),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_it_is_refused_and_counted(field, attack):
    what = getattr(attack, field.kind)
    if what is None:
        field.scene.center.listen(0.3)  # what is late of the attack before is not of this one
    field.news()
    assert attack.attempt(field) == ""
    if what is None:
        assert attack.why
        field.scene.center.listen(0.3)
        assert field.news() == []
        return
    events = field.counted(what)
    right = [one for one in events if one.what is what]
    assert right, events
    assert {one.broker for one in events} == {field.kind}
    assert {one.source for one in right} == {field.broker.host}
    named = what not in {
        What.NO_CERTIFICATE,
        What.FOREIGN_CERTIFICATE,
        What.EXPIRED_CERTIFICATE,
        What.WRONG_CERTIFICATE,
        What.BAD_CERTIFICATE,
        What.NOT_TLS,
    }
    assert all(one.who for one in right) == named, right


def test_the_honest_were_never_disturbed(field):
    field.scene.fence()
    field.ingest.listen(0.1)
    assert field.ingest.alive
    assert field.scene.center.alive
    assert field.scene.device.alive
