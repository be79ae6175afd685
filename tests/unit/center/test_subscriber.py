"""The centre's ear: what it does when the broker says no, or more than it can take."""

import logging
import threading
import time

import pytest
from paho.mqtt.client import MQTTMessage

from ketang_center.ingest import subscriber as ear_of
from ketang_center.ingest.subscriber import MOST_WAITING_BYTES, Ear, Subscriber
from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_contract.batch import MAX_FRAME_BYTES
from ketang_provisioning.ca import ThrowawayAuthority

PATIENCE_S = 30


def ear_as(identity, name, port=1, host="127.0.0.1"):
    return Ear(
        host, port, identity.ca_file, identity.certificate_file, identity.key_file, name=name
    )


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


def events(caplog, name):
    return [one for one in caplog.messages if one.startswith(name)]


def test_a_refused_subscription_is_told_once_and_asked_for_again(tmp_path, monkeypatch, caplog):
    """NATS refuses in its SUBACK what a certificate may not hear: here, a device's."""
    monkeypatch.setattr(ear_of, "_ASK_AGAIN_S", 0.1)
    caplog.set_level(logging.INFO)
    authority = ThrowawayAuthority(tmp_path / "keys")
    program = find_broker(Kind.NATS)
    with LocalBroker(tmp_path / "broker", authority.server(), program=program) as broker:
        ear = ear_as(authority.client("panel-1"), "panel-1", broker.port, broker.host)
        subscriber = Subscriber(ear, tmp_path / "center")
        asked = []
        subscribe = subscriber._client.subscribe
        monkeypatch.setattr(
            subscriber._client,
            "subscribe",
            lambda topic, qos: asked.append(topic) or subscribe(topic, qos=qos),
        )
        ingest = threading.Thread(target=subscriber.run)
        ingest.start()
        try:
            wait_for(lambda: len(asked) >= 3)
        finally:
            subscriber.stop()
            ingest.join()
    assert len(events(caplog, "broker.deaf")) == 1


@pytest.mark.mosquitto
def test_a_lost_broker_and_a_return_are_told_once_each_and_listening_begins_anew(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    authority = ThrowawayAuthority(tmp_path / "keys")
    program = find_broker(Kind.MOSQUITTO)
    now = iter(range(1_000_000, 2_000_000_000, 1000))
    with LocalBroker(tmp_path / "broker", authority.server(), program=program) as broker:
        ear = ear_as(authority.client("center_ingest"), "center_ingest", broker.port, broker.host)
        subscriber = Subscriber(ear, tmp_path / "center", lambda: next(now))
        ingest = threading.Thread(target=subscriber.run)
        ingest.start()
        try:
            wait_for(lambda: subscriber._listening_ms)
            first = subscriber._listening_ms
            broker.stop()
            wait_for(lambda: events(caplog, "broker.lost"))
            broker.start()
            wait_for(lambda: subscriber._listening_ms > first)
        finally:
            subscriber.stop()
            ingest.join()
    assert len(events(caplog, "broker.lost")) == 1
    assert len(events(caplog, "broker.connected")) == 2


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES, 10])
def test_what_waits_in_memory_is_bounded_whatever_comes(tmp_path, caplog, size):
    authority = ThrowawayAuthority(tmp_path / "keys")
    subscriber = Subscriber(
        ear_as(authority.client("center_ingest"), "center_ingest"), tmp_path / "center"
    )
    client = subscriber._client
    let_go = []
    client.ack = lambda mid, qos: let_go.append(mid)
    one = MQTTMessage(topic=b"kt/v1/00/x/up/b/use")
    one.qos, one.payload = 1, bytes(size)
    most = MOST_WAITING_BYTES // (size + 1024)
    for mid in range(most + 10):
        one.mid = mid
        client.on_message(client, None, one)
    assert len(subscriber._waiting) == most
    assert subscriber._listening_ms, "what was let go is a break in listening"
    assert len(let_go) == 10, "the broker's window must not fill with what is gone"
    assert len(events(caplog, "ingest.overflowing")) == 1
    group = subscriber._next_group()
    assert subscriber._waiting_bytes == (most - len(group)) * (size + 1024)
