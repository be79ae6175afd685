"""What a broker's configuration says, and the rules that its log is judged by."""

import json
from pathlib import Path

import pytest

from ketang_contract import topics
from ketang_contract.errors import BadInput
from ketang_provisioning import brokers, nats_permits
from ketang_provisioning.broker_log import What
from ketang_provisioning.ca import Identity
from ketang_provisioning.nats_permits import NoEntry, Permit, Question

IDENTITY = Identity(Path("ca.pem"), Path("broker.pem"), Path("broker.key"))


def test_mosquitto_asks_each_listener_for_everything(tmp_path):
    file = brokers.mosquitto(
        tmp_path / "b",
        8883,
        IDENTITY,
        addresses=("::", "0.0.0.0"),  # noqa: S104
        with_revocations=True,
    )
    lines = file.read_text().splitlines()
    for each in (
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        f"crlfile {tmp_path / 'b' / brokers.REVOKED}",
    ):
        assert lines.count(each) == 2
    assert "listener 8883 ::" in lines
    assert "allow_anonymous false" in lines
    assert not [one for one in lines if one.startswith("ciphers")]
    acl = (tmp_path / "b" / "acl").read_text()
    assert {f"user {one}" for one in brokers.SERVICES} <= set(acl.splitlines())
    assert acl.partition("user center_check\n")[2].splitlines()[:3] == [
        "topic read kt/v1/+/+/up/check",
        "topic write kt/v1/+/+/dn/check",
        "",
    ]


def test_the_file_of_nats_holds_no_secret_and_stays_the_same(tmp_path):
    ports = brokers.NatsPorts(8883, 4222)
    file = brokers.nats(tmp_path, ports, IDENTITY, address="::", own_address="::1")
    text = file.read_text()
    assert (
        text == brokers.nats(tmp_path, ports, IDENTITY, address="::", own_address="::1").read_text()
    )
    for name in (brokers.NATS_ISSUER, brokers.NATS_DOORKEEPER):
        text = text.replace(f"${name}", '"key"')
    settings = json.loads(text)
    assert settings["listen"] == "[::1]:4222"
    assert settings["mqtt"]["listen"] == "[::]:8883"
    assert settings["mqtt"]["tls"]["verify"]


@pytest.mark.parametrize("address", ["broker.example", "", "1.2.3", "::1\nuser root"])
def test_only_an_address_is_listened_on(tmp_path, address):
    with pytest.raises(BadInput, match="IP address"):
        brokers.mosquitto(tmp_path, 8883, IDENTITY, addresses=(address,))
    with pytest.raises(BadInput, match="IP address"):
        brokers.nats(tmp_path, brokers.NatsPorts(1, 2), IDENTITY, address=address)


@pytest.mark.parametrize(
    ("name", "topic", "listen", "say"),
    [
        ("panel-a", topics.of("panel-a", "dn/ack"), True, False),
        ("panel-a", topics.of("panel-a", "up/birth"), False, True),
        ("panel-a", topics.of("panel-b", "dn/ack"), False, False),
        ("panel-a", "kt/v1/+/+/dn/#", False, False),
        ("panel-a", "#", False, False),
        ("panel-a", "kt", False, False),
        ("panel-a", f"$share/g/{topics.of('panel-a', 'dn/#')}", False, False),
        ("center_ingest", topics.everything_up(), True, False),
        ("center_check", topics.of("panel-a", "dn/ack"), False, False),
        ("center_check", topics.of("panel-a", "dn/check"), False, True),
        ("center_check", topics.of("panel-a", "up/check"), True, False),
        ("center_check", topics.everything_up(), False, False),
        ("center_ingest", "#", False, False),
        ("center_other", topics.everything_up(), False, False),
    ],
)
def test_the_rule_of_the_acl(name, topic, listen, say):
    assert brokers.may_listen(name, topic) == listen
    assert brokers.may_say(name, topic) == say


def question(**changes):
    values = {
        "kind": "mqtt",
        "client_id": "panel-a",
        "common_names": ("panel-a",),
        "serial": 7,
        "until_s": 1_900_000_000,
        "source": "::1",
        "user_key": "",
        "server_id": "",
    }
    return Question(**values | changes)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (question(kind="nats"), What.BAD_CLIENT),
        (question(common_names=()), What.NO_CERTIFICATE),
        (question(common_names=("panel-a", "panel-b")), What.NO_CERTIFICATE),
        (question(serial=9), What.REVOKED_CERTIFICATE),
        (question(client_id="panel-b"), What.TAKEOVER_TRIED),
        (question(client_id="#", common_names=("#",)), What.UNKNOWN_NAME),
        (question(client_id="center_x", common_names=("center_x",)), What.UNKNOWN_NAME),
    ],
)
def test_the_doorkeeper_says_why(asked, what):
    verdict = nats_permits.judge(asked, brokers.SERVICES, lambda serial: serial == 9)
    assert isinstance(verdict, NoEntry)
    assert verdict.what is what


def test_a_device_may_go_under_its_own_shard_only():
    permit = nats_permits.judge(question(), brokers.SERVICES)
    assert isinstance(permit, Permit)
    assert permit.publish == ("kt.v1.94.panel-a.up.>",)


def test_the_check_hears_and_says_nothing_but_its_own_channel():
    asked = question(client_id="center_check", common_names=("center_check",))
    permit = nats_permits.judge(asked, brokers.SERVICES)
    assert permit == Permit("center_check", ("kt.v1.*.*.dn.check",), ("kt.v1.*.*.up.check",))
