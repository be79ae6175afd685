"""Broker configuration: identity from the certificate, each device on its own topics only.

Nobody is let in by it without ``ketang broker run`` (or ``LocalBroker``) around the broker: that
hands mosquitto its revocation list, answers for NATS who may come in, and counts the refusals.
"""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from ketang_contract.errors import BadInput
from ketang_provisioning.ca import Identity

SERVICE = "center_ingest"
CHECK = "center_check"
"""Used by ``ketang broker check`` alone. It hears ``up/check`` and speaks on ``dn/check``, of every
device: an ACL of mosquitto matches whole levels, so that it cannot say "of ids that begin with
``probe-``". Nothing else is sent on these two channels."""
SERVICES = (SERVICE, CHECK)
STORE = "store"
"""Name of the folder with all that a broker keeps."""
REVOKED = "clients.crl"
"""Name of the broker's own copy of the revocation list."""
MOST_BYTES = 1 << 20
"""The largest packet a broker takes."""

_IN_FLIGHT = 1024
"""Unacknowledged messages to one client. The centre acknowledges after it has committed, in groups;
mosquitto's own default of 20 would make every group wait for the one before it."""
_CONNECTIONS = 20_000
_MOST_KEEPALIVE_S = 600
"""A client that wants to be silent longer is refused: it could be dead that long unnoticed."""


NATS_ACK_WAIT_S = 30
"""How long NATS waits for an acknowledgement before it sends a message again, also to a session
that came back. Longer than the centre's longest commit."""
NATS_ISSUER, NATS_DOORKEEPER = "KETANG_NATS_ISSUER", "KETANG_NATS_DOORKEEPER"
"""Environment variables with the public halves of a run's two keys."""


@dataclass(frozen=True, slots=True)
class NatsPorts:
    """``mqtt`` for clients; ``own`` for the doorkeeper alone."""

    mqtt: int
    own: int


def mosquitto(
    folder: Path,
    port: int,
    identity: Identity,
    *,
    user: str = "",
    services: Collection[str] = SERVICES,
    addresses: Sequence[str] = ("127.0.0.1",),
    with_revocations: bool = False,
) -> Path:
    """Write a private mosquitto configuration; return the file to start it with.

    ``set_tcp_nodelay`` is what makes batched acknowledgements quick: without it each waits for the
    kernel to merge small writes. Ciphers are left to OpenSSL. ``::`` means IPv6 alone to mosquitto;
    for both, name ``0.0.0.0`` too.

    A denied publish is logged at ``debug`` only. Measured with mosquitto 2.0.11 on two busy cores,
    900 bytes at QoS 1 to one subscriber, medians of four runs of 10,000: 29,000 messages/s without
    debug, 25,000 with it into a pipe that is read (21,000 to 38,000 and 21,000 to 33,000, so the
    difference is within the noise); 14 and 17 microseconds of the broker's CPU for each. Reading
    its four lines costs us 2 more, and the pipe. A region of 20,000 devices sends 70 a second, so
    debug is on.

    Args:
        folder: made if need be, 0700.
        port: of every address.
        identity: the server's certificate and key, and the authorities of the clients.
        user: whom mosquitto becomes when root starts it.
        services: names with the centre's rights.
        addresses: one listener each.
        with_revocations: check certificates against ``REVOKED`` in the folder, which must be there
            before the broker starts.
    """
    _private_folder(folder)
    (folder / STORE).mkdir(mode=0o700, exist_ok=True)
    acl = folder / "acl"
    _write_private(acl, _mosquitto_acl(services))
    lines = ["per_listener_settings false"]
    revoked = folder / REVOKED if with_revocations else None
    for address in addresses:
        lines += _mosquitto_listener(address, port, identity, revoked)
    lines += [
        "allow_anonymous false",
        f"acl_file {acl}",
        "set_tcp_nodelay true",
        f"max_packet_size {MOST_BYTES}",
        f"max_inflight_messages {_IN_FLIGHT}",
        "max_queued_messages 10000",
        f"max_queued_bytes {64 << 20}",
        f"max_keepalive {_MOST_KEEPALIVE_S}",
        "persistent_client_expiration 7d",
        "sys_interval 0",
        "persistence true",
        f"persistence_location {folder / STORE}/",
        "autosave_interval 30",
        "log_dest stderr",
        "log_timestamp false",
        *(f"log_type {one}" for one in _MOSQUITTO_LOG),
        *([f"user {user}"] if user else []),
    ]
    file = folder / "mosquitto.conf"
    _write_private(file, "\n".join(lines) + "\n")
    return file


_MOSQUITTO_LOG = ("error", "warning", "notice", "information", "subscribe", "debug")


def nats(
    folder: Path,
    ports: NatsPorts,
    identity: Identity,
    *,
    address: str = "127.0.0.1",
    own_address: str = "127.0.0.1",
) -> Path:
    """Write a private nats-server configuration with MQTT; return the file to start it with.

    Who may come in, and what for, is not in it: the server asks the doorkeeper
    (``nats_doorkeeper``) about every client. Its own port wants the doorkeeper's signature over a
    nonce. Both keys live as long as one run; the file names environment variables for their public
    halves, so it holds no secret and stays the same. One address only: a NATS listener has one;
    ``::`` means IPv6 and IPv4 to it.
    """
    _private_folder(folder)
    certificate = {
        "cert_file": str(identity.certificate_file),
        "key_file": str(identity.key_file),
    }
    settings = {
        "server_name": "ketang_broker",
        "listen": f"{bracketed(own_address)}:{ports.own}",
        "logtime": False,
        "tls": {**certificate, "handshake_first": True},
        "max_payload": MOST_BYTES,
        "max_connections": _CONNECTIONS,
        "jetstream": {
            "store_dir": str(folder / STORE),
            "max_memory_store": 64 << 20,
            "max_file_store": 1 << 30,
        },
        "mqtt": {
            "listen": f"{bracketed(address)}:{ports.mqtt}",
            "tls": {**certificate, "ca_file": str(identity.ca_file), "verify": True, "timeout": 5},
            "ack_wait": f"{NATS_ACK_WAIT_S}s",
            "max_ack_pending": _IN_FLIGHT,
        },
        "authorization": {
            "timeout": 2,
            "users": [{"nkey": f"${NATS_DOORKEEPER}"}],
            "auth_callout": {"issuer": f"${NATS_ISSUER}", "auth_users": [f"${NATS_DOORKEEPER}"]},
        },
    }
    text = json.dumps(settings, indent=2)
    for name in (NATS_ISSUER, NATS_DOORKEEPER):
        text = text.replace(f'"${name}"', f"${name}")  # a variable is not looked for in quotes
    file = folder / "nats.conf"
    _write_private(file, text + "\n")
    return file


def may_listen(name: str, topic_filter: str) -> bool:
    """Tell whether a subscription is within a client's rights.

    Mosquitto grants every subscription and delivers nothing of what is forbidden, so that a
    forbidden one can only be told from its log by this rule, which is that of its ACL.
    """
    root, version, _, device, *rest = [*topic_filter.split("/"), "", "", "", ""]
    if (root, version) != ("kt", "v1"):
        return False
    if name == CHECK:
        return rest[:2] == ["up", "check"]
    return rest[0] == "up" if name in SERVICES else device == name and rest[0] == "dn"


def may_say(name: str, topic: str) -> bool:
    """Tell whether a topic is within a client's rights to publish; the rule of the ACL."""
    root, version, _, device, *rest = [*topic.split("/"), "", "", "", ""]
    if (root, version) != ("kt", "v1"):
        return False
    if name == CHECK:
        return rest[:2] == ["dn", "check"]
    return rest[0] == "dn" if name in SERVICES else device == name and rest[0] == "up"


def bracketed(address: str) -> str:
    """Write an address as it stands before a port: IPv6 in brackets.

    Raises:
        BadInput: it is no IP address.
    """
    try:
        six = isinstance(ip_address(address), IPv6Address)
    except ValueError:
        raise BadInput(f"{address[:60]!r}: an IP address to listen on, e.g. :: or ::1") from None
    return f"[{address}]" if six else address


def _mosquitto_acl(services: Collection[str]) -> str:
    """Say who may do what.

    A pattern is for every name: a certificate of our authority that is neither a device's nor in
    ``services``, say ``center_x``, could write and read under its own name, ``kt/v1/+/center_x/``,
    and nowhere else. No such certificate is made but by ``ketang provision client-certificate``,
    and the centre dead-letters what is under no device's id. NATS keeps such a name out.
    """
    lines: list[str] = []
    for service in services:
        here = "check" if service == CHECK else "#"
        lines += [
            f"user {service}",
            f"topic read kt/v1/+/+/up/{here}",
            f"topic write kt/v1/+/+/dn/{here}",
            "",
        ]
    lines += ["pattern write kt/v1/+/%u/up/#", "pattern read kt/v1/+/%u/dn/#"]
    return "\n".join(lines) + "\n"


def _mosquitto_listener(
    address: str, port: int, identity: Identity, revoked: Path | None
) -> list[str]:
    bracketed(address)  # refuses what is none
    return [
        f"listener {port} {address}",
        f"max_connections {_CONNECTIONS}",
        f"cafile {identity.ca_file}",
        f"certfile {identity.certificate_file}",
        f"keyfile {identity.key_file}",
        "tls_version tlsv1.2",
        "require_certificate true",
        *([f"crlfile {revoked}"] if revoked else []),
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
