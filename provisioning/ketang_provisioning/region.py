"""A region's first keys and certificates, and the first trust document that names them.

Nothing is written here: ``make`` returns what goes into each file, ``region_files`` puts it on disk
in one step. There is no X.509 root (ADR 8): two authorities vouch for themselves, and the trust
document, signed by two of three root holders, names them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ketang_contract import signatures
from ketang_contract.errors import BadInput
from ketang_contract.trust import (
    PAYLOAD_TYPE,
    CertificateAuthority,
    Purpose,
    RootKey,
    Trust,
    TrustedKey,
)
from ketang_provisioning import region_files
from ketang_provisioning.brokers import SERVICE
from ketang_provisioning.certificates import (
    Authority,
    certificate_pem,
    check_host,
    make_authority,
)
from ketang_provisioning.keys import (
    PrivateKey,
    PublicKey,
    key_id,
    make_ec,
    make_ed25519,
    private_pem,
    public_pem,
)

DAY = timedelta(days=1)
THRESHOLD = 2
CLIENTS_CA_LASTS, SERVERS_CA_LASTS = 5 * 365 * DAY, 10 * 365 * DAY
SERVER_LASTS = SERVICE_LASTS = 397 * DAY
KEY_LASTS, TRUST_LASTS = 3 * 365 * DAY, 2 * 365 * DAY

PASSPHRASES = (
    "holder-1",
    "holder-2",
    "holder-3",
    "servers-ca",
    "config-1",
    "config-2",
    "filing",
    "updates-root",
    "updates-targets",
)
"""One for each key that is kept off line."""
LEAST_PASSPHRASE = 20
_GROUPS = 6
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""32 characters, none like another on paper (Crockford's base32)."""
_MAX_NAME = 40
_MAX_HOLDER = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a region is called, where its machines are reached, and who holds which key."""

    region_name: str
    center_hosts: tuple[str, ...]
    broker_hosts: tuple[str, ...]
    root_holders: tuple[str, ...] = ("holder-1", "holder-2", "holder-3")
    config_holders: tuple[str, ...] = ("config-1", "config-2")
    approver: str = "approver-1"

    def check(self) -> None:
        """Refuse a plan that cannot be carried out, before anything is made.

        Raises:
            BadInput: what is wrong with it.
        """
        if not 0 < len(self.region_name) <= _MAX_NAME or not self.region_name.isprintable():
            raise BadInput(f"--region-name: 1 to {_MAX_NAME} characters in one line")
        for option, hosts in (
            ("--center-host", self.center_hosts),
            ("--broker-host", self.broker_hosts),
        ):
            if not hosts:
                raise BadInput(f"{option}: one at least")
            for host in hosts:
                check_host(host)
        for holders, count in ((self.root_holders, 3), (self.config_holders, 2)):
            if len(set(holders)) != count or len(holders) != count:
                raise BadInput(f"{', '.join(holders)}: {count} different holders are needed")
        for name in (*self.root_holders, *self.config_holders, self.approver):
            if not 0 < len(name) <= _MAX_HOLDER or not name.isprintable():
                raise BadInput(f"{name[:60]!r}: a holder has 1 to {_MAX_HOLDER} characters")


@dataclass(frozen=True, slots=True)
class _Made:
    """The keys of a region, before they are written anywhere."""

    roots: tuple[Ed25519PrivateKey, ...]
    clients: Authority
    servers: Authority
    signing: Mapping[str, Ed25519PrivateKey]


def new_passphrase() -> str:
    """Make a passphrase of 120 random bits, in groups of four that can be read out."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(_GROUPS))


def new_passphrases() -> dict[str, str]:
    """Make one for each key that is kept off line."""
    return {name: new_passphrase() for name in PASSPHRASES}


def check_passphrases(said: Mapping[str, str]) -> None:
    """Refuse passphrases that are missing, unknown, short, or used twice.

    Raises:
        BadInput: which.
    """
    for name in PASSPHRASES:
        if len(said.get(name, "")) < LEAST_PASSPHRASE:
            raise BadInput(f"passphrase {name}: at least {LEAST_PASSPHRASE} characters")
    if set(said) != set(PASSPHRASES) or len(set(said.values())) != len(PASSPHRASES):
        raise BadInput(f"passphrases: a different one for each of {', '.join(PASSPHRASES)}")


def make(plan: Plan, passphrases: Mapping[str, str], *, now: datetime) -> dict[str, bytes]:
    """Make a region.

    Args:
        plan: checked here.
        passphrases: one for each of ``PASSPHRASES``.
        now: an aware time.

    Returns:
        What goes into each file, by its path within the region's folder.

    Raises:
        BadInput: the plan or a passphrase is wrong.
    """
    plan.check()
    check_passphrases(passphrases)
    made = _keys(plan, now)
    trust = _trust(plan, made, now)
    sealed = signatures.seal(trust.payload(), PAYLOAD_TYPE, made.roots)
    return {
        **_holders(made, passphrases),
        **_offline(made, passphrases),
        **_center(plan, made, trust.fingerprint, now),
        **_broker(plan, made, now),
        **{f"{folder}/trust.json": sealed for folder in ("offline", "center", "installer")},
        "installer/root.fingerprint": f"{trust.fingerprint}\n".encode(),
    }


def _keys(plan: Plan, now: datetime) -> _Made:
    return _Made(
        roots=tuple(make_ed25519() for _ in plan.root_holders),
        clients=make_authority(
            f"{plan.region_name} clients CA", make_ec(), "clients", now=now, lasts=CLIENTS_CA_LASTS
        ),
        servers=make_authority(
            f"{plan.region_name} servers CA", make_ec(), "servers", now=now, lasts=SERVERS_CA_LASTS
        ),
        signing={name: make_ed25519() for name in ("config-1", "config-2", "filing", *_ONLINE)}
        | {name: make_ed25519() for name in ("tuf-root", "tuf-targets")},
    )


_ONLINE = ("kit", "command", "tuf-snapshot", "tuf-timestamp")


def _trust(plan: Plan, made: _Made, now: datetime) -> Trust:
    issued_s = int(now.timestamp())
    until_s = issued_s + int(KEY_LASTS.total_seconds())
    # Of the update keys only their root: the others are named by TUF's own metadata, and an online
    # key that stood here could pass itself off as the root.
    named = (
        ("config-1", Purpose.CONFIG, plan.config_holders[0]),
        ("config-2", Purpose.CONFIG, plan.config_holders[1]),
        ("filing", Purpose.FILING, plan.approver),
        ("kit", Purpose.KIT, "center"),
        ("command", Purpose.COMMAND, "center"),
        ("tuf-root", Purpose.UPDATES, "tuf-root"),
    )
    return Trust(
        version=1,
        issued_s=issued_s,
        expires_s=issued_s + int(TRUST_LASTS.total_seconds()),
        threshold=THRESHOLD,
        roots=tuple(
            root_key(key.public_key(), holder)
            for key, holder in zip(made.roots, plan.root_holders, strict=True)
        ),
        keys=tuple(
            TrustedKey(
                *_named(made.signing[name].public_key()), purpose, "", who, issued_s, until_s
            )
            for name, purpose, who in named
        ),
        authorities=(
            trusted_authority(made.clients, Purpose.CLIENTS_CA, issued_s),
            trusted_authority(made.servers, Purpose.SERVERS_CA, issued_s),
        ),
    )


def root_key(public: PublicKey, holder: str) -> RootKey:
    """Name a root key and its holder."""
    return RootKey(*_named(public), holder)


def trusted_authority(authority: Authority, purpose: Purpose, from_s: int) -> CertificateAuthority:
    """Name an authority, until its own certificate ends."""
    end_s = int(authority.certificate.not_valid_after_utc.timestamp())
    pem = certificate_pem(authority.certificate).decode()
    return CertificateAuthority(purpose, pem, from_s, end_s)


def _named(public: PublicKey) -> tuple[str, str]:
    return key_id(public), public_pem(public)


def _holders(made: _Made, passphrases: Mapping[str, str]) -> dict[str, bytes]:
    return {
        f"holder-{at}/root.key": private_pem(key, passphrases[f"holder-{at}"].encode())
        for at, key in enumerate(made.roots, 1)
    }


def _offline(made: _Made, passphrases: Mapping[str, str]) -> dict[str, bytes]:
    locked: tuple[tuple[str, PrivateKey, str], ...] = (
        ("servers-ca", made.servers.key, "servers-ca"),
        ("config-1", made.signing["config-1"], "config-1"),
        ("config-2", made.signing["config-2"], "config-2"),
        ("filing", made.signing["filing"], "filing"),
        ("tuf-root", made.signing["tuf-root"], "updates-root"),
        ("tuf-targets", made.signing["tuf-targets"], "updates-targets"),
    )
    return {
        "offline/servers-ca.pem": certificate_pem(made.servers.certificate),
        **{
            f"offline/{file}.key": private_pem(key, passphrases[name].encode())
            for file, key, name in locked
        },
    }


def _center(plan: Plan, made: _Made, fingerprint: str, now: datetime) -> dict[str, bytes]:
    passphrase = new_passphrase()
    ingest = make_ec()
    client = made.clients.issue_client(SERVICE, ingest.public_key(), now=now, lasts=SERVICE_LASTS)
    return {
        "center/clients-ca.pem": certificate_pem(made.clients.certificate),
        "center/clients-ca.key": private_pem(made.clients.key, passphrase.encode()),
        "center/clients-ca.passphrase": f"{passphrase}\n".encode(),
        "center/servers-ca.pem": certificate_pem(made.servers.certificate),
        **_server("center/center", made.servers, plan.center_hosts, now),
        # Together: the centre renews it by itself, and one rename swaps both.
        f"center/{SERVICE}.pem": private_pem(ingest, None) + certificate_pem(client),
        "center/code.key": f"{secrets.token_hex(32)}\n".encode(),
        **{f"center/{name}.key": private_pem(made.signing[name], None) for name in _ONLINE},
        "center/center.toml": region_files.center_toml(
            plan.center_hosts, plan.broker_hosts[0], fingerprint
        ).encode(),
    }


def _broker(plan: Plan, made: _Made, now: datetime) -> dict[str, bytes]:
    return {
        **_server("broker/broker", made.servers, plan.broker_hosts, now),
        "broker/clients-ca.pem": certificate_pem(made.clients.certificate),
        "broker/clients.crl": made.clients.revocation_list([], now=now, number=1),
    }


def _server(
    path: str, authority: Authority, hosts: tuple[str, ...], now: datetime
) -> dict[str, bytes]:
    key = make_ec()
    made = authority.issue_server(
        path.rsplit("/", 1)[1], key.public_key(), hosts, now=now, lasts=SERVER_LASTS
    )
    return {f"{path}.pem": certificate_pem(made), f"{path}.key": private_pem(key, None)}
