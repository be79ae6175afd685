"""What the centre was told at installation: where its data, its broker and its console are."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ketang_center.enrolment.settings import Enrolment, read_enrolment
from ketang_center.ingest.subscriber import Ear
from ketang_contract.tables import MAX_PATH, MOST_PORT, Table, read_table

_KEYS = (
    "data_dir",
    "broker_host",
    "broker_port",
    "ca",
    "certificate",
    "key",
    "web_host",
    "web_port",
    "home",
    "demo",
    "own_device",
    "web_certificate",
    "web_key",
    "oidc",
    "enrolment",
    "offsite",
    "broker_refusals",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """An OpenID Connect provider that vouches for people; nothing reaches out without it.

    Attributes:
        issuer: its address, exactly as its own documents name it.
        label: what the button on the sign-in page says.
        ca: certificates to trust it by, where it is the region's own; None: the system's.
    """

    issuer: str
    client_id: str
    client_secret_file: Path
    label: str
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One file, ``center.toml``; paths in it are relative to it.

    Attributes:
        home: the unit whose figures the console shows; empty: the top of the registry.
        demo: fictitious schools; pages say so, and let a viewer change the role.
        own_device: this machine's own agent, shown first on its school's page.
        web_certificate: the console's certificate with what stands above it, PEM; None: plain
            HTTP, which is for this machine alone.
        web_key: its private key.
        oidc: a provider people may also sign in by.
        enrolment: how devices get in; None: this centre enrols nobody.
        offsite: a folder on another machine, for what a restored backup must not forget.
        broker_refusals: where ``ketang broker run`` writes what the broker refused.
    """

    data_dir: Path
    ear: Ear
    web_host: str
    web_port: int
    home: str = ""
    demo: bool = False
    own_device: str = ""
    web_certificate: Path | None = None
    web_key: Path | None = None
    oidc: Oidc | None = None
    enrolment: Enrolment | None = None
    offsite: Path | None = None
    broker_refusals: Path | None = None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine alone."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read(path: Path) -> Settings:
    """Read a ``center.toml``.

    Raises:
        BadInput: the file, the key, and what is accepted, in one line.
    """
    here, said = path.resolve().parent, read_table(path)
    said.allow(*_KEYS)
    certificate, key = (
        here / said.text(name, most=MAX_PATH) if name in said else None
        for name in ("web_certificate", "web_key")
    )
    _guard(said, secured=certificate is not None and key is not None)
    return Settings(
        data_dir=here / said.text("data_dir", most=MAX_PATH),
        ear=Ear(
            host=said.text("broker_host", most=MAX_PATH),
            port=said.integer("broker_port", 1, MOST_PORT, 8883),
            ca_file=here / said.text("ca", most=MAX_PATH),
            certificate_file=here / said.text("certificate", most=MAX_PATH),
            key_file=here / said.text("key", most=MAX_PATH),
        ),
        web_host=said.text("web_host", "127.0.0.1", most=MAX_PATH),
        web_port=said.integer("web_port", 0, MOST_PORT, 8080),
        home=said.text("home", ""),
        demo=said.boolean("demo", default=False),
        own_device=said.text("own_device", ""),
        web_certificate=certificate,
        web_key=key,
        oidc=_oidc(here, said.table("oidc")) if "oidc" in said else None,
        enrolment=read_enrolment(here, said.table("enrolment")) if "enrolment" in said else None,
        offsite=here / said.text("offsite", most=MAX_PATH) if "offsite" in said else None,
        broker_refusals=here / said.text("broker_refusals", most=MAX_PATH)
        if "broker_refusals" in said
        else None,
    )


def _guard(said: Table, *, secured: bool) -> None:
    """Refuse a console that others could reach unprotected."""
    if ("web_certificate" in said) != ("web_key" in said):
        lacking = "web_key" if "web_certificate" in said else "web_certificate"
        raise said.wrong(lacking, "missing; certificate and key belong together")
    host = said.text("web_host", "127.0.0.1", most=MAX_PATH)
    if is_loopback(host):
        return
    if not secured:
        raise said.wrong(
            "web_host",
            f"{host!r} can be reached from outside: web_certificate and web_key are needed",
        )
    if said.boolean("demo", default=False):
        raise said.wrong("demo", f"nobody logs in to a demo: not on {host!r}, only on 127.0.0.1")


def _oidc(here: Path, said: Table) -> Oidc:
    said.allow("issuer", "client_id", "client_secret_file", "label", "ca")
    issuer = said.text("issuer", most=MAX_PATH)
    parts = urlsplit(issuer)
    plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or plain):
        raise said.wrong("issuer", f"{issuer!r} is not accepted; accepted: an https:// address")
    return Oidc(
        issuer=issuer,
        client_id=said.text("client_id", most=MAX_PATH),
        client_secret_file=here / said.text("client_secret_file", most=MAX_PATH),
        label=said.text("label"),
        ca=here / said.text("ca", most=MAX_PATH) if "ca" in said else None,
    )
