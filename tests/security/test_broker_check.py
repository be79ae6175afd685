"""The proof of the proof: for each thing the check tries, a broker that must fail it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ketang_cli.local_broker import Kind, LocalBroker, find_broker
from ketang_provisioning import broker_check, brokers, nats_permits
from ketang_provisioning.broker_probe import Address, Papers, Probe
from ketang_provisioning.broker_scene import Place
from ketang_provisioning.ca import ThrowawayAuthority
from ketang_provisioning.keys import make_ec
from ketang_provisioning.nats_permits import NoEntry, Permit

MOSQUITTO = pytest.mark.mosquitto
OPEN_ACL = "pattern readwrite #\npattern readwrite $SYS/#\n"
EVERYTHING = (
    "publish_other_up",
    "publish_other_up_retained",
    "publish_other_dn",
    "publish_own_dn",
    "subscribe_other_dn",
    "subscribe_other_up",
    "subscribe_everything",
    "will_other",
    "strange_client_ids",
    "unknown_service",
)


class Yard:
    """A broker whose files or whose doorkeeper are bent before it starts."""

    def __init__(self, folder, kind, monkeypatch):
        self.authority = ThrowawayAuthority(folder / "keys")
        self._folder, self._kind, self._patch = folder, kind, monkeypatch
        self._crl, self._revoked = folder / "clients.crl", []
        self._write_crl()

    def bend(self, file, pattern, instead):
        write = brokers._write_private

        def bent(path, text):
            if path.name == file:
                assert re.search(pattern, text), f"{pattern} is not in {file}"
                text = re.sub(pattern, instead, text)
            write(path, text)

        self._patch.setattr(brokers, "_write_private", bent)

    def check(self, *only):
        program = find_broker(self._kind)
        with LocalBroker(
            self._folder / "broker", self.authority.server(), program=program, crl_file=self._crl
        ) as broker:
            place = Place(
                Address(broker.host, broker.port),
                self.authority.ca_file,
                self.authority.server("center"),
                self._revoke,
            )
            found = broker_check.run(place, self.authority.clients, only)
        return {one.name: one for one in found if one.held is not True}

    def _revoke(self, serial):
        self._revoked.append(serial)
        self._write_crl()

    def _write_crl(self):
        now = datetime.now(UTC)
        self._crl.write_bytes(
            self.authority.clients.revocation_list(
                [(one, now) for one in self._revoked], now=now, number=len(self._revoked)
            )
        )


@pytest.fixture
def mosquitto(tmp_path, monkeypatch):
    return Yard(tmp_path, Kind.MOSQUITTO, monkeypatch)


@pytest.fixture
def nats(tmp_path, monkeypatch):
    return Yard(tmp_path, Kind.NATS, monkeypatch)


def must_find(yard, *names):
    found = yard.check(*names)
    assert set(found) == set(names), found
    for one in found.values():
        assert one.held is False
        assert one.seen
        assert one.todo


@MOSQUITTO
def test_an_open_acl_is_found_by_everything_that_an_acl_must_stop(mosquitto):
    mosquitto.bend("acl", r"(?s).*", OPEN_ACL)
    must_find(mosquitto, *EVERYTHING, "subscribe_shared", "strange_names")


@MOSQUITTO
@pytest.mark.parametrize(
    ("file", "pattern", "instead", "names"),
    [
        ("acl", r"pattern write .*", "pattern readwrite kt/v1/+/%u/#", ["publish_own_dn"]),
        ("acl", r"\Z", "pattern read kt/v1/+/+/up/#\n", ["subscribe_other_up"]),
        ("acl", r"\Z", "pattern write kt/v1/+/+/up/#\n", ["will_other", "publish_other_up"]),
        ("acl", r"\A", "user center_other\ntopic readwrite #\n", ["unknown_service"]),
        ("acl", r"user center_check\n", "user center_gone\n", ["allowed_paths"]),
        (
            "mosquitto.conf",
            "use_username_as_clientid true",
            "",
            ["takeover_device", "takeover_center"],
        ),
        (
            "mosquitto.conf",
            r"require_certificate true\n|allow_anonymous false|use_\w+ true\n|crlfile .*\n",
            "allow_anonymous true\n",
            ["no_certificate"],
        ),
        ("mosquitto.conf", r"crlfile .*\n", "", ["revoked_certificate"]),
        ("mosquitto.conf", r"max_packet_size .*\n", "", ["oversized"]),
    ],
)
def test_each_line_that_a_mosquitto_lacks_is_found(mosquitto, file, pattern, instead, names):
    mosquitto.bend(file, pattern, instead)
    if names == ["no_certificate"]:
        # without names nobody has a topic of his own, so that the acl must be open as well
        mosquitto.bend("acl", r"(?s).*", "topic readwrite #\npattern readwrite #\n")
    must_find(mosquitto, *names)


@MOSQUITTO
def test_internals_that_are_given_out_are_found(mosquitto):
    mosquitto.bend("mosquitto.conf", r"sys_interval 0", "sys_interval 1")
    mosquitto.bend("acl", r"(?s).*", OPEN_ACL)
    must_find(mosquitto, "subscribe_internals")


@MOSQUITTO
@pytest.mark.parametrize("kind", ["foreign", "expired"])
def test_a_broker_that_takes_a_bad_certificate_is_found(mosquitto, monkeypatch, kind):
    """No setting makes mosquitto do that; a certificate that is good imitates it."""
    monkeypatch.setattr(Papers, kind, Papers.good)
    must_find(mosquitto, f"{kind}_certificate")


@MOSQUITTO
def test_a_broker_that_takes_a_servers_certificate_is_found(mosquitto, monkeypatch):
    monkeypatch.setattr(mosquitto.authority, "server", _a_client_instead(mosquitto.authority))
    must_find(mosquitto, "server_certificate")


def _a_client_instead(authority):
    server = authority.server
    return lambda name="broker": server() if name == "broker" else authority.client("panel-x")


def anybody(question, services, is_revoked):
    return Permit(question.client_id, (">",), (">",))


def any_id(question, services, is_revoked):
    """The doorkeeper that does not compare the client id with the certificate's name."""
    if is_revoked(question.serial):
        return NoEntry("revoked", nats_permits.What.REVOKED_CERTIFICATE)
    name = question.client_id
    own = f"kt.v1.*.{name}"
    if name in services:
        return Permit(name, ("kt.v1.*.*.dn.>",), ("kt.v1.*.*.up", "kt.v1.*.*.up.>"))
    return Permit(name, (f"{own}.up.>",), (f"{own}.dn.>", f"{own}.dn"))


def test_a_doorkeeper_that_lets_anybody_anywhere_is_found(nats, monkeypatch):
    monkeypatch.setattr(nats_permits, "judge", anybody)
    must_find(nats, *EVERYTHING, "revoked_certificate", "takeover_device", "takeover_center")


def test_a_doorkeeper_that_takes_any_client_id_is_found(nats, monkeypatch):
    monkeypatch.setattr(nats_permits, "judge", any_id)
    must_find(nats, "takeover_device", "takeover_center")


def test_a_nats_that_asks_for_no_certificate_is_found(nats, monkeypatch):
    nats.bend("nats.conf", '"verify": true', '"verify": false')
    monkeypatch.setattr(nats_permits, "judge", any_id)
    monkeypatch.setattr("ketang_provisioning.revocations.Revocations.is_revoked", lambda *_: False)
    must_find(nats, "no_certificate")


def test_a_nats_without_a_size_limit_is_found(nats):
    nats.bend("nats.conf", r'"max_payload": \d+', '"max_payload": 8000000')
    must_find(nats, "oversized")


def test_what_could_not_be_tried_is_not_called_held(nats):
    found = nats.check("publish_own_dn")
    assert found == {}
    with LocalBroker(
        nats._folder / "again", nats.authority.server(), program=find_broker(Kind.NATS)
    ) as broker:
        place = Place(Address(broker.host, broker.port), nats.authority.ca_file)
        only = ("revoked_certificate", "server_certificate")
        found = broker_check.run(place, nats.authority.clients, only)
    assert [one.held for one in found] == [True, None, None]
    assert all(one.todo for one in found[1:])


def test_nats_hangs_up_when_a_certificate_ends(nats):
    """Checked while it is connected, not only when it comes in."""
    with LocalBroker(
        nats._folder / "ends", nats.authority.server(), program=find_broker(Kind.NATS)
    ) as broker:
        address, ca_file = Address(broker.host, broker.port), nats.authority.ca_file
        papers = Papers(nats._folder, ca_file, nats.authority.clients)
        key, now = make_ec(), datetime.now(UTC)
        short = nats.authority.clients.issue_client(
            "panel-short", key.public_key(), now=now, lasts=timedelta(seconds=4)
        )
        identity = papers._keep(key, short)
        with (
            Probe(address, ca_file, identity, "panel-short") as probe,
            Probe(address, ca_file, papers.good("panel-long"), "panel-long") as other,
        ):
            assert probe.entered
            assert other.entered
            assert probe.wait(lambda: not probe.alive, 15)
            late_s = (datetime.now(UTC) - short.not_valid_after_utc).total_seconds()
            assert -1.5 <= late_s <= 3
            assert other.alive


def test_every_finding_has_a_broker_that_fails_it():
    """``will_own`` and ``wrong_shard`` forbid nothing: the one is a control, the other a note."""
    said = Path(__file__).read_text("utf-8")
    for one in broker_check.CHECKS:
        kind = one.name.removesuffix("_certificate")
        assert one.name in said or f'"{kind}"' in said, one.name
