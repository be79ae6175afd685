"""A client that tries things at a broker, and certificates made to be refused.

One thread: a probe moves only while it is waited on, which is also what lets it run where there is
no 127.0.0.1 (paho's own threads make a pair of sockets there).
"""

import contextlib
import select
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ketang_provisioning import certificates, keys
from ketang_provisioning.ca import Identity
from ketang_provisioning.certificates import Authority

PATIENCE_S = 5.0
LASTS = timedelta(hours=1)
"""A probe's certificate is good for this long, whatever becomes of its key."""
_CONNECT_S = 5.0
_POLL_S = 0.05
_KEEPALIVE_S = 60


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker takes clients."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says when a client dies."""

    topic: str
    payload: bytes
    retain: bool = False


class Probe:
    """A client under any certificate and any id. ``with Probe(…) as probe``; it never reconnects.

    Attributes:
        entered: the broker took it in.
        got: what reached it.
        granted: subscriptions that were answered; no proof of anything.
        why: why it was not taken in, as far as is known.
    """

    def __init__(
        self,
        address: Address,
        ca_file: Path,
        identity: Identity | None,
        client_id: str,
        *,
        filters: Sequence[str] = (),
        will: Will | None = None,
    ) -> None:
        self.entered, self.why = False, ""
        self.got: list[MQTTMessage] = []
        self.granted = 0
        self._filters = filters
        self._address = address
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=str(ca_file))
        if identity is not None:
            context.load_cert_chain(identity.certificate_file, identity.key_file)
        self._client.tls_set_context(context)
        self._client.connect_timeout = _CONNECT_S
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def alive(self) -> bool:
        """Whether the broker has not hung up, as of the last wait."""
        return self._client.socket() is not None

    def enter(self) -> bool:
        """Connect and subscribe; true if it was taken in. Again after it was thrown out."""
        self.entered, self.granted = False, 0
        try:
            self._client.connect(self._address.host, self._address.port, _KEEPALIVE_S)
        except (OSError, ValueError) as problem:
            self.why = str(problem)
            return False
        self.wait(lambda: self.entered or not self.alive)
        if self.entered:
            for one in self._filters:
                self._client.subscribe(one, qos=1)
            self.wait(lambda: self.granted >= len(self._filters) or not self.alive)
        return self.entered

    def wait(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
        """Take what comes until a condition holds; false if it did not come about."""
        deadline = time.monotonic() + patience_s
        while not condition():
            left_s = deadline - time.monotonic()
            link: Any = self._client.socket()
            if link is None or left_s < 0:
                return condition()
            write = [link] if self._client.want_write() else []
            readable, writable, _ = select.select([link], write, [], min(_POLL_S, left_s))
            if readable or link.pending():
                self._client.loop_read()
            if writable:
                self._client.loop_write()
            self._client.loop_misc()
        return True

    def listen(self, seconds: float) -> None:
        """Take what comes for a while."""
        self.wait(lambda: False, seconds)

    def heard(self, payload: bytes, patience_s: float = PATIENCE_S) -> bool:
        """Wait for a message with this content."""
        return self.wait(lambda: payload in self.payloads(), patience_s)

    def payloads(self) -> list[bytes]:
        """Content of everything that came."""
        return [bytes(one.payload) for one in self.got]

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1, and wait for the answer, which proves nothing."""
        if self.alive:
            said = self._client.publish(topic, payload, qos=1, retain=retain)
            self.wait(lambda: said.rc != 0 or said.is_published())

    def subscribe_again(self) -> None:
        """Ask for the same once more, which brings what is retained."""
        wanted = self.granted + len(self._filters)
        for one in self._filters:
            self._client.subscribe(one, qos=1)
        self.wait(lambda: self.granted >= wanted)

    def die(self) -> None:
        """Hang up without a word, so that the will is said."""
        link = self._client.socket()
        if link is not None:
            link.close()

    def leave(self) -> None:
        """Say goodbye, if the broker still listens."""
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()

    def _on_connect(
        self, client: Client, _: Any, __: ConnectFlags, code: ReasonCode, ___: Properties | None
    ) -> None:
        del client
        self.entered = not code.is_failure
        self.why = str(code) if code.is_failure else ""

    def _on_disconnect(
        self, client: Client, _: Any, __: DisconnectFlags, code: ReasonCode, ___: Properties | None
    ) -> None:
        del client
        self.why = self.why or f"the broker hung up ({code})"

    def _on_subscribe(self, *_: Any) -> None:
        self.granted += 1

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        del client
        self.got.append(message)


class Papers:
    """Certificates for probes, in one private folder, each good for an hour."""

    def __init__(self, folder: Path, ca_file: Path, authority: Authority) -> None:
        self._folder, self._ca_file, self._authority = folder, ca_file, authority
        self._made = 0

    def good(self, name: str) -> Identity:
        """One that should be taken in."""
        return self._issue(self._authority, name, datetime.now(UTC))

    def expired(self, name: str) -> Identity:
        """One that ended a day ago."""
        return self._issue(self._authority, name, datetime.now(UTC) - timedelta(days=1))

    def foreign(self, name: str) -> Identity:
        """One of another authority, of the same name as ours."""
        now = datetime.now(UTC)
        called = certificates.common_name(self._authority.certificate)
        other = certificates.make_authority(called, keys.make_ec(), "clients", now=now, lasts=LASTS)
        return self._issue(other, name, now)

    def odd(self, name: str) -> Identity:
        """One with a name that we never give: a wildcard, a dot."""
        key, now = keys.make_ec(), datetime.now(UTC)
        authority = self._authority
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - certificates.SLOW_CLOCK)
            .not_valid_after(now + LASTS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(authority.key, hashes.SHA256())
        )
        return self._keep(key, made)

    def _issue(self, authority: Authority, name: str, now: datetime) -> Identity:
        key = keys.make_ec()
        made = authority.issue_client(name, key.public_key(), now=now, lasts=LASTS)
        return self._keep(key, made)

    def _keep(self, key: keys.PrivateKey, made: x509.Certificate) -> Identity:
        self._made += 1
        at = self._folder / f"probe-{self._made}"
        identity = Identity(self._ca_file, at.with_suffix(".pem"), at.with_suffix(".key"))
        keys.write_private(identity.certificate_file, certificates.certificate_pem(made))
        keys.save_private(identity.key_file, key, None)
        return identity
