"""``ketang broker``: configure a region's broker, run it, and try whether it holds."""

import argparse
import json
import logging
import os
from contextlib import ExitStack
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_provisioning.broker_check import Finding

_FILES = ("broker.pem", "broker.key", "clients-ca.pem", "clients.crl")
_DOES_NOT_HOLD, _NOT_TRIED = 1, 3
"""Exit statuses of ``check``."""
_WORDS = {True: "holds", False: "DOES NOT HOLD", None: "not tried"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``config``, ``run`` and ``check``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    config = actions.add_parser("config", help="write a broker's configuration")
    config.add_argument("kind", choices=("mosquitto", "nats"))
    config.add_argument(
        "--region",
        type=Path,
        required=True,
        metavar="DIR",
        help="what ketang provision init made, or its broker/ alone",
    )
    config.add_argument("--out", type=Path, required=True, metavar="DIR")
    config.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="ADDRESS",
        help="an IP address to listen on, e.g. :: or 0.0.0.0; mosquitto takes several",
    )
    config.add_argument("--port", type=int, default=8883)
    config.add_argument("--own-port", type=int, default=4222, help="NATS: for its doorkeeper")
    config.add_argument(
        "--own-host", default="::1", metavar="ADDRESS", help="NATS: the loopback, 127.0.0.1 or ::1"
    )
    config.add_argument(
        "--crl",
        type=Path,
        metavar="FILE",
        help="the revocation list that the centre replaces; the region's own unless told",
    )
    config.add_argument(
        "--refusals",
        type=Path,
        metavar="FILE",
        help="whom the broker refused, for the centre to read; else it lies beside the rest",
    )
    run_it = actions.add_parser("run", help="run the broker, and count whom it refuses")
    run_it.add_argument("--config", type=Path, required=True, metavar="DIR")
    check = actions.add_parser("check", help="try forbidden things at a running broker")
    check.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
    check.add_argument(
        "--crl", type=Path, metavar="FILE", help="the broker's revocation list, to try it"
    )
    check.add_argument(
        "--allow-untried", action="store_true", help="exit with 0 although something was not tried"
    )
    check.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action; ``check`` returns 1 when something does not hold, 3 if untried.

    Raises:
        BadInput: what is missing or wrong, in one line.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    if options.action == "config":
        return _configure(options)
    if options.action == "run":
        from ketang_cli import broker_service

        folder = options.config.resolve()
        return broker_service.BrokerService(folder, broker_service.read(folder)).run()
    return _check(options)


def _configure(options: argparse.Namespace) -> int:
    from ketang_cli import broker_service
    from ketang_provisioning import brokers
    from ketang_provisioning.ca import Identity

    place = _find_region(options.region)
    certificate, key, ca_file, crl = (place / name for name in _FILES)
    crl = (options.crl or crl).resolve()
    identity = Identity(ca_file, certificate, key)
    out = options.out.resolve()
    _check_apart(out, crl)
    _check_reach(options)
    if options.kind == "nats":
        if len(options.host) != 1:
            raise BadInput("--host: NATS listens on one address; :: means IPv6 and IPv4 to it")
        file = brokers.nats(
            out,
            brokers.NatsPorts(options.port, options.own_port),
            identity,
            address=options.host[0],
            own_address=options.own_host,
        )
    else:
        file = brokers.mosquitto(
            out,
            options.port,
            identity,
            user=_owner(key),
            addresses=options.host,
            with_revocations=True,
        )
    broker_service.write(
        out,
        broker_service.Settings(
            options.kind,
            str(crl),
            str(ca_file),
            str(certificate),
            str(key),
            options.own_host,
            options.own_port,
            refusals=str(options.refusals.resolve()) if options.refusals else "",
        ),
    )
    print(f"{file}\nstart it with: ketang broker run --config {out}")
    return 0


def _check_reach(options: argparse.Namespace) -> None:
    if not _is_loopback(options.own_host):
        raise BadInput(
            f"--own-host: {options.own_host[:60]!r}; only the loopback, ::1 or 127.0.0.1"
        )
    for port in (options.port, options.own_port):
        if not 0 < port < 1 << 16:
            raise BadInput(f"port {port}: 1 to 65535")


def _check_apart(out: Path, crl: Path) -> None:
    """Refuse to let the broker's own copy of the list be the file that the centre replaces."""
    from ketang_provisioning import brokers

    own = out / brokers.REVOKED
    if own.resolve() == crl.resolve() or (own.exists() and crl.exists() and own.samefile(crl)):
        raise BadInput(
            f"--out {out}: there lies the list that the centre replaces ({crl}), and the broker's"
            " own copy has the same name; name another folder"
        )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _find_region(region: Path) -> Path:
    for place in (region / "broker", region):
        if all((place / name).is_file() for name in _FILES):
            return place.resolve()
    raise BadInput(f"{region}: needs {', '.join(_FILES)}; make them with: ketang provision init")


def _owner(key: Path) -> str:
    """Whoever may read the key is whom mosquitto must become, should root start it."""
    if os.geteuid() != 0:
        return ""
    import pwd

    owner = key.stat().st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        raise BadInput(f"{key}: belongs to account {owner}, which has no name here") from None


def _check(options: argparse.Namespace) -> int:
    from ketang_center import settings
    from ketang_center.enrolment.service import load_authorities
    from ketang_provisioning import broker_check
    from ketang_provisioning.broker_probe import Address
    from ketang_provisioning.broker_scene import Place
    from ketang_provisioning.ca import Identity
    from ketang_provisioning.trial_revocation import TrialRevocation

    chosen = settings.read(options.settings)
    enrolment = chosen.enrolment
    if enrolment is None:
        raise BadInput(f"{options.settings}: needs [enrolment]: probes want certificates")
    authorities = load_authorities(enrolment)
    crl = options.crl or enrolment.crl
    with ExitStack() as stack:
        trial = stack.enter_context(TrialRevocation(crl, authorities)) if crl else None
        place = Place(
            Address(chosen.ear.host, chosen.ear.port),
            chosen.ear.ca_file,
            Identity(chosen.ear.ca_file, enrolment.certificate, enrolment.key),
            trial.revoke if trial else None,
        )
        found = broker_check.run(place, authorities[0])
    for one in found:
        print(json.dumps(asdict(one)) if options.json else _line(one))
    if any(one.held is False for one in found):
        return _DOES_NOT_HOLD
    untried = any(one.held is None for one in found)
    return _NOT_TRIED if untried and not options.allow_untried else 0


def _line(one: "Finding") -> str:
    todo = f"; {one.todo}" if one.todo else ""
    return f"{_WORDS[one.held]:14} {one.name}: {one.seen}{todo}"
