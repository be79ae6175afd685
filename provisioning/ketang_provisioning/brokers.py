"""Broker configuration: identity from the certificate, each device on its own topics only."""

from pathlib import Path

from ketang_provisioning.ca import Identity

SERVICE = "center_ingest"

_MOSQUITTO_ACL = f"""\
user {SERVICE}
topic read kt/v1/+/+/up/#
topic write kt/v1/+/+/dn/#

pattern write kt/v1/+/%u/up/#
pattern read kt/v1/+/%u/dn/#
"""


def mosquitto(folder: Path, port: int, identity: Identity, *, user: str = "") -> Path:
    """Write a private mosquitto configuration for 127.0.0.1; return the file to start it with.

    ``set_tcp_nodelay`` is what makes batched acknowledgements quick: without it each waits for the
    kernel to merge small writes.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = folder / "store"
    store.mkdir(exist_ok=True)
    acl = folder / "acl"
    acl.write_text(_MOSQUITTO_ACL, encoding="ascii")
    acl.chmod(0o600)
    lines = [
        "per_listener_settings false",
        f"listener {port} 127.0.0.1",
        f"cafile {identity.ca_file}",
        f"certfile {identity.certificate_file}",
        f"keyfile {identity.key_file}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {acl}",
        "set_tcp_nodelay true",
        "max_packet_size 1048576",
        "max_queued_messages 1000",
        "persistence true",
        f"persistence_location {store}/",
        "log_dest stderr",
        "log_type warning",
        "log_type error",
        *([f"user {user}"] if user else []),
    ]
    file = folder / "mosquitto.conf"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
