"""``[enrolment]`` in ``center.toml``: where devices enrol, and with which keys."""

from dataclasses import dataclass
from pathlib import Path

from ketang_contract.kit import center_url
from ketang_contract.tables import MAX_PATH, MOST_PORT, Table

_APPROVALS = ("doubtful", "always")
_PER_S = 20
_AUTHORITY = ("clients_ca", "clients_ca_key", "clients_ca_passphrase_file")


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """Where an authority's certificate, its key and the key's passphrase are."""

    certificate: Path
    key: Path
    passphrase_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Paths are relative to the settings file.

    Attributes:
        clients_ca: makes devices' certificates.
        earlier_clients_ca: the one it replaces, whose certificates are still about.
        url: how devices reach the service; it stands in every kit.
        broker_host: how devices reach the broker; handed out with each identity.
        approval: whether a person approves what is doubtful only, or everything.
        per_s: devices taken in each second; more are told to come back.
        crl: where the broker on this machine reads its revocation list; None: brokers elsewhere
            fetch it from the service.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    clients_ca: AuthorityFiles
    code_key: Path
    kit_key: Path
    trust: Path
    fingerprint: str
    url: str
    broker_host: str
    broker_port: int
    approval: str = _APPROVALS[0]
    per_s: int = _PER_S
    crl: Path | None = None
    earlier_clients_ca: AuthorityFiles | None = None


def read_enrolment(here: Path, said: Table) -> Enrolment:
    """Read the table.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    said.allow(
        *Enrolment.__dataclass_fields__, *_AUTHORITY, *(f"earlier_{one}" for one in _AUTHORITY)
    )

    def path(key: str) -> Path:
        return here / said.text(key, most=MAX_PATH)

    return Enrolment(
        host=said.text("host", "::", most=MAX_PATH),
        port=said.integer("port", 0, MOST_PORT, 8443),
        certificate=path("certificate"),
        key=path("key"),
        clients_ca=AuthorityFiles(*(path(one) for one in _AUTHORITY)),
        earlier_clients_ca=AuthorityFiles(*(path(f"earlier_{one}") for one in _AUTHORITY))
        if f"earlier_{_AUTHORITY[0]}" in said
        else None,
        code_key=path("code_key"),
        kit_key=path("kit_key"),
        trust=path("trust"),
        fingerprint=said.text("fingerprint", form="[0-9a-f]{64}"),
        url=center_url(said.text("url", most=MAX_PATH)),
        broker_host=said.text("broker_host", most=MAX_PATH),
        broker_port=said.integer("broker_port", 1, MOST_PORT, 8883),
        approval=said.one_of("approval", _APPROVALS, _APPROVALS[0]),
        per_s=said.integer("per_s", 1, 1000, _PER_S),
        crl=path("crl") if "crl" in said else None,
    )
