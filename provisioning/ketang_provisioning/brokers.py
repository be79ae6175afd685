"""Broker configuration: identity from the certificate, each device on its own topics only."""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ketang_provisioning.ca import Identity

SERVICE = "center_ingest"
STORE = "store"
"""Name of the folder with all that a broker keeps."""

_PACKET_BYTES = 1 << 20
_IN_FLIGHT = 1024
"""Unacknowledged messages to one client. The centre acknowledges after it has committed, in groups;
mosquitto's own default of 20 would make every group wait for the one before it."""


NATS_ACK_WAIT_S = 30
"""How long NATS waits for an acknowledgement before it sends a message again, also to a session
that came back. Longer than the centre's longest commit."""


@dataclass(frozen=True, slots=True)
class NatsPorts:
    """``mqtt`` for clients; ``own`` for the doorkeeper alone."""

    mqtt: int
    own: int


@dataclass(frozen=True, slots=True)
class NatsKeys:
    """Public halves: ``issuer`` signs permits, ``doorkeeper`` logs in to answer questions."""

    issuer: str
    doorkeeper: str


def mosquitto(
    folder: Path,
    port: int,
    identity: Identity,
    *,
    user: str = "",
    services: Collection[str] = (SERVICE,),
    addresses: Sequence[str] = ("127.0.0.1",),
) -> Path:
    """Write a private mosquitto configuration; return the file to start it with.

    ``set_tcp_nodelay`` is what makes batched acknowledgements quick: without it each waits for the
    kernel to merge small writes. ``user`` is whom mosquitto becomes when root starts it.
    """
    _private_folder(folder)
    (folder / STORE).mkdir(mode=0o700, exist_ok=True)
    acl = folder / "acl"
    _write_private(acl, _mosquitto_acl(services))
    lines = ["per_listener_settings false"]
    for address in addresses:
        lines += _mosquitto_listener(address, port, identity)
    lines += [
        "allow_anonymous false",
        f"acl_file {acl}",
        "set_tcp_nodelay true",
        f"max_packet_size {_PACKET_BYTES}",
        f"max_inflight_messages {_IN_FLIGHT}",
        "max_queued_messages 10000",
        f"max_queued_bytes {64 << 20}",
        "persistence true",
        f"persistence_location {folder / STORE}/",
        "autosave_interval 30",
        "log_dest stderr",
        "log_type warning",
        "log_type error",
        *([f"user {user}"] if user else []),
    ]
    file = folder / "mosquitto.conf"
    _write_private(file, "\n".join(lines) + "\n")
    return file


def nats(folder: Path, ports: NatsPorts, identity: Identity, keys: NatsKeys) -> Path:
    """Write a private nats-server configuration with MQTT; return the file to start it with.

    Who may come in, and what for, is not in it: the server asks the doorkeeper
    (``nats_doorkeeper``) about every client. Its own port wants the doorkeeper's signature over a
    nonce, so the file holds no secret. One address only: a NATS listener has one.
    """
    _private_folder(folder)
    certificate = {
        "cert_file": str(identity.certificate_file),
        "key_file": str(identity.key_file),
    }
    settings = {
        "server_name": "ketang_local",
        "listen": f"127.0.0.1:{ports.own}",
        "tls": {**certificate, "handshake_first": True},
        "max_payload": _PACKET_BYTES,
        "max_connections": 20_000,
        "jetstream": {
            "store_dir": str(folder / STORE),
            "max_memory_store": 64 << 20,
            "max_file_store": 1 << 30,
        },
        "mqtt": {
            "listen": f"127.0.0.1:{ports.mqtt}",
            "tls": {**certificate, "ca_file": str(identity.ca_file), "verify": True, "timeout": 5},
            "ack_wait": f"{NATS_ACK_WAIT_S}s",
            "max_ack_pending": _IN_FLIGHT,
        },
        "authorization": {
            "timeout": 2,
            "users": [{"nkey": keys.doorkeeper}],
            "auth_callout": {"issuer": keys.issuer, "auth_users": [keys.doorkeeper]},
        },
    }
    file = folder / "nats.conf"
    _write_private(file, json.dumps(settings, indent=2) + "\n")
    return file


def _mosquitto_acl(services: Collection[str]) -> str:
    lines: list[str] = []
    for service in services:
        lines += [f"user {service}", "topic read kt/v1/+/+/up/#", "topic write kt/v1/+/+/dn/#", ""]
    lines += ["pattern write kt/v1/+/%u/up/#", "pattern read kt/v1/+/%u/dn/#"]
    return "\n".join(lines) + "\n"


def _mosquitto_listener(address: str, port: int, identity: Identity) -> list[str]:
    return [
        f"listener {port} {address}",
        f"cafile {identity.ca_file}",
        f"certfile {identity.certificate_file}",
        f"keyfile {identity.key_file}",
        "tls_version tlsv1.2",
        "require_certificate true",
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
