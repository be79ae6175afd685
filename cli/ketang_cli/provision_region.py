"""``ketang provision``: init, status, server-certificate, client-certificate."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from ketang_provisioning.certificates import Authority
    from ketang_provisioning.expiry import Ending
    from ketang_provisioning.region import Plan

Language = Literal["zh", "en"]
_MAX_PASSPHRASE = 256
_MOST_CLIENT_DAYS = 397
"""As long as the centre makes its own (``own_identity``)."""
_MOST_SERVER_DAYS = 3650
"""Ten years, as long as an authority."""


def add_actions(actions: Any) -> None:
    """Declare the actions."""
    _add_init(actions.add_parser("init", help="make a region's keys and certificates, once"))
    status = actions.add_parser("status", help="show what ends when, and who has to act")
    status.add_argument("folder", type=Path, metavar="FOLDER")
    status.add_argument("--json", action="store_true")
    add_language(status)
    server = actions.add_parser("server-certificate", help="make one for the broker or the centre")
    server.add_argument("--host", nargs="+", action="extend", required=True, metavar="HOST")
    _add_issuing(server, "broker", "offline/servers-ca.pem")
    client = actions.add_parser("client-certificate", help="make one for a service of the region")
    _add_issuing(client, "center_ingest", "center/clients-ca.pem")


def _add_init(init: argparse.ArgumentParser) -> None:
    init.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    init.add_argument("--region-name", required=True, metavar="NAME")
    for option, told in (
        ("--center-host", "names and addresses of the centre"),
        ("--broker-host", "names and addresses of the broker; devices use the first"),
    ):
        init.add_argument(
            option, nargs="+", action="extend", required=True, metavar="HOST", help=told
        )
    init.add_argument("--holders", nargs=3, metavar="NAME", help="who keep the three root keys")
    init.add_argument("--config-holders", nargs=2, metavar="NAME", help="who sign configurations")
    init.add_argument("--approver", metavar="NAME", help="who approves models and filings")
    init.add_argument(
        "--passphrases", type=Path, metavar="FILE", help="TOML; without it they are printed once"
    )
    add_language(init)


def _add_issuing(parser: argparse.ArgumentParser, name: str, authority: str) -> None:
    parser.add_argument("--name", default=name, metavar="NAME", help=f"{name} unless told")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--days", type=int, default=397, metavar="N")
    parser.add_argument(
        "--authority", type=Path, required=True, metavar="CA.PEM", help=f"e.g. {authority}"
    )
    parser.add_argument(
        "--key", type=Path, metavar="CA.KEY", help="beside the authority, unless told"
    )
    add_passphrase(parser)


def add_language(parser: argparse.ArgumentParser) -> None:
    """Declare ``--lang``; the environment's LANG decides without it."""
    parser.add_argument("--lang", choices=("zh", "en"), default=None)


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Declare where a passphrase comes from; it is asked for without it."""
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="else it is asked for")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, in one line.
    """
    if options.action == "init":
        return _init(options)
    if options.action == "status":
        return _status(options)
    return _issue(options)


def language(options: argparse.Namespace) -> Language:
    """Return the language that was asked for, or the environment's."""
    if options.lang:
        return cast("Language", options.lang)
    said = next((os.environ[name] for name in ("LC_ALL", "LANG") if os.environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") else "en"


def read_passphrase(file: Path | None, what: str) -> bytes:
    """Read a passphrase: the first line of a file, or what a person types.

    Raises:
        BadInput: the file cannot be read, or there is nobody to ask.
    """
    if file is not None:
        try:
            return file.read_text("utf-8").partition("\n")[0].strip().encode()
        except (OSError, UnicodeDecodeError) as problem:
            raise BadInput(f"{file}: cannot be read as text") from problem
    if not sys.stdin.isatty():
        raise BadInput(f"the passphrase of {what}: name a file with --passphrase-file")
    from getpass import getpass

    return getpass(f"{what}: ").strip().encode()


def _init(options: argparse.Namespace) -> int:
    from ketang_provisioning import region, region_files

    out, zh = options.out, language(options) == "zh"
    if region_files.is_finished(out):
        fingerprint = (out / "installer" / "root.fingerprint").read_text("ascii").strip()
        print(f"{out}: 已经生成过，未作任何改动" if zh else f"{out}: made before; nothing changed")
        print(f"{'根密钥指纹' if zh else 'Fingerprint of the roots'}: {fingerprint}")
        return 0
    plan = _plan(options)
    plan.check()
    said = _passphrases(options.passphrases) if options.passphrases else None
    passphrases = region.new_passphrases() if said is None else said
    files = region.make(plan, passphrases, now=datetime.now(UTC))
    text = region_files.read_me(
        region_files.Names(
            region=plan.region_name,
            fingerprint=files["installer/root.fingerprint"].decode().strip(),
            roots=plan.root_holders,
            config=plan.config_holders,
            approver=plan.approver,
        ),
        language(options),
    )
    files[region_files.READ_ME] = text.encode()

    def announce() -> None:
        print(text)
        if said is None:
            _print_passphrases(passphrases, zh=zh)
        sys.stdout.flush()

    region_files.put(out, files, announce=announce)
    print(f"完成：{out}" if zh else f"Finished: {out}")
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    from ketang_provisioning.region import Plan

    named = {
        "root_holders": tuple(options.holders or ()),
        "config_holders": tuple(options.config_holders or ()),
        "approver": options.approver,
    }
    return Plan(
        region_name=options.region_name,
        center_hosts=tuple(options.center_host),
        broker_hosts=tuple(options.broker_host),
        **{name: value for name, value in named.items() if value},
    )


def _passphrases(path: Path) -> dict[str, str]:
    from ketang_contract.tables import read_table
    from ketang_provisioning.region import PASSPHRASES, check_passphrases

    said = read_table(path)
    said.allow(*PASSPHRASES)
    found = {name: said.text(name, most=_MAX_PASSPHRASE) for name in PASSPHRASES}
    check_passphrases(found)
    return found


def _print_passphrases(passphrases: Mapping[str, str], *, zh: bool) -> None:
    print(
        "密钥口令只显示这一次，不保存在任何地方："
        if zh
        else "The passphrases, shown this once and kept nowhere:"
    )
    for name, passphrase in passphrases.items():
        print(f"  {name:<16}  {passphrase}")
    print()


def _status(options: argparse.Namespace) -> int:
    from ketang_provisioning import expiry

    if not options.folder.is_dir():
        raise BadInput(f"{options.folder}: no such folder")
    now, unreadable = datetime.now(UTC), list[str]()
    found = expiry.survey(options.folder, unreadable.append)
    for line in unreadable:
        print(line, file=sys.stderr)
    if not found and not unreadable:
        raise BadInput(f"{options.folder}: holds no certificate and no trust document")
    chosen = language(options)
    if options.json:
        rows = [_as_object(one, now, chosen) for one in found]
        print(json.dumps({"items": rows}, ensure_ascii=False))
    else:
        for one in found:
            print(_line(one, now, chosen))
    return 1 if unreadable or any(one.is_pressing(now) for one in found) else 0


def _as_object(one: "Ending", now: datetime, chosen: Language) -> dict[str, Any]:
    from ketang_provisioning import expiry

    return {
        "kind": one.renewal,
        "name": one.name,
        "files": list(one.files),
        "ends": one.ends.isoformat(),
        "days_left": one.days_left(now),
        "renews_itself": one.renewal in expiry.BY_ITSELF,
        "due": one.due.isoformat(),
        "pressing": one.is_pressing(now),
        "do": _to_do(one, chosen),
    }


def _line(one: "Ending", now: datetime, chosen: Language) -> str:
    from ketang_provisioning import expiry

    en = chosen == "en"
    mark = "!" if one.is_pressing(now) else " "
    left, day = one.days_left(now), f"{one.ends:%Y-%m-%d}"
    head = f"{mark} {day}  {left:>5} {'days' if en else '天'}  {_KINDS[one.renewal][en]} {one.name}"
    todo = _to_do(one, chosen)
    if one.renewal not in expiry.BY_ITSELF:
        todo = f"by {one.due:%Y-%m-%d}: {todo}" if en else f"{one.due:%Y-%m-%d} 之前：{todo}"
    return f"{head}\n      {', '.join(one.files)}\n      {todo}"


def _to_do(one: "Ending", chosen: Language) -> str:
    hosts = "".join(f" --host {host}" for host in one.hosts)
    service = f"ketang-{one.name}" if one.name in {"broker", "center"} else one.name
    return _TO_DO[one.renewal][chosen == "en"].format(name=one.name, hosts=hosts, service=service)


_KINDS = {
    "device": ("设备证书", "device certificate"),
    "crl": ("注销列表，已注销", "revocation list, revoked:"),
    "own": ("中心在消息服务器的证书", "the centre's certificate at the broker,"),
    "service": ("服务的客户端证书", "client certificate of"),
    "server": ("服务器证书", "server certificate of"),
    "clients_ca": ("客户端CA", "authority"),
    "servers_ca": ("服务器CA", "authority"),
    "trust": ("信任文件，版本", "trust document, version"),
    "key": ("密钥", "key:"),
}
_TO_DO = {
    "device": ("设备自行续期", "renews itself"),
    "crl": (
        "中心每天自动签发；若少于7天，请检查中心和消息服务器",
        "the centre makes a new one every day; under 7 days left, look at centre and broker",
    ),
    "own": (
        "中心自行续期；若少于7天，请检查中心是否在运行",
        "renews itself; under 7 days left, look whether the centre runs",
    ),
    "service": (
        (
            "在中心运行 ketang provision client-certificate --name {name} --authority"
            " clients-ca.pem --passphrase-file clients-ca.passphrase --out new，"
            "用 new/{name}.pem 替换，再重启该服务"
        ),
        (
            "at the centre: ketang provision client-certificate --name {name} --authority"
            " clients-ca.pem --passphrase-file clients-ca.passphrase --out new; put new/{name}.pem"
            " in its place and restart the service"
        ),
    ),
    "server": (
        (
            "在离线机器运行 ketang provision server-certificate --name {name}{hosts} --authority"
            " servers-ca.pem --out new，把 new/{name}.pem 和 new/{name}.key 送到该机器替换，"
            "再执行 systemctl restart {service}"
        ),
        (
            "on the offline machine: ketang provision server-certificate --name {name}{hosts}"
            " --authority servers-ca.pem --out new; carry new/{name}.pem and new/{name}.key to"
            " their place, then: systemctl restart {service}"
        ),
    ),
    "clients_ca": (
        "在中心运行 ketang provision trust rotate-ca clients，由两位根密钥持有人签署",
        "at the centre: ketang provision trust rotate-ca clients; two root holders sign",
    ),
    "servers_ca": (
        "在离线机器运行 ketang provision trust rotate-ca servers，由两位根密钥持有人签署",
        "on the offline machine: ketang provision trust rotate-ca servers; two root holders sign",
    ),
    "trust": (
        "ketang provision trust renew，由两位根密钥持有人签署",
        "ketang provision trust renew; two root holders sign. Devices that have it go on after it",
    ),
    "key": (
        "ketang provision trust new-key 和 add-key，由两位根密钥持有人签署",
        "ketang provision trust new-key, then add-key; two root holders sign",
    ),
}
"""Chinese, English."""


def _issue(options: argparse.Namespace) -> int:
    from ketang_provisioning import keys
    from ketang_provisioning.certificates import Authority, certificate_pem

    client = options.action == "client-certificate"
    most_days = _MOST_CLIENT_DAYS if client else _MOST_SERVER_DAYS
    if not 1 <= options.days <= most_days:
        raise BadInput(f"--days: 1 to {most_days}")
    if client and "_" not in options.name:
        raise BadInput(f"--name: {options.name[:60]!r} is no service (center_x); devices enrol")
    locked = options.key or options.authority.with_suffix(".key")
    passphrase = read_passphrase(options.passphrase_file, str(locked))
    authority = Authority.load(options.authority, locked, passphrase)
    key = keys.make_ec()
    made = _certificate(options, authority, key.public_key())
    private, public = keys.private_pem(key, None), certificate_pem(made)
    # A service's pair is one file: one rename swaps both.
    content = (
        {f"{options.name}.pem": private + public}
        if client
        else {f"{options.name}.key": private, f"{options.name}.pem": public}
    )
    files = {options.out / name: raw for name, raw in content.items()}
    if taken := [str(one) for one in files if one.exists()]:
        raise BadInput(f"{taken[0]}: is there already; nothing is overwritten, name another --out")
    options.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, raw in files.items():
        keys.write_private(path, raw)
    print(f"{path}: {options.name}, {made.not_valid_after_utc:%Y-%m-%d}")
    return 0


def _certificate(
    options: argparse.Namespace, authority: "Authority", public: "EllipticCurvePublicKey"
) -> "x509.Certificate":
    now, lasts = datetime.now(UTC), timedelta(days=options.days)
    if options.action == "server-certificate":
        return authority.issue_server(options.name, public, options.host, now=now, lasts=lasts)
    return authority.issue_client(options.name, public, now=now, lasts=lasts)
