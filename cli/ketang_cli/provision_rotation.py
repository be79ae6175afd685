"""``ketang provision trust rotate-ca``: the new authority, and what a person has to do with it."""

import argparse
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ketang_cli.provision_region import language
from ketang_contract.errors import BadInput
from ketang_contract.tables import MAX_PATH, read_table
from ketang_contract.trust import CertificateAuthority, Trust

FOR_BROKER = "for-broker.pem"
"""The authorities that the broker has to know until the overlap ends."""
_DATED = re.compile(r" \d{8}$")
_KEYS = ("clients_ca", "clients_ca_key", "clients_ca_passphrase_file")
_FILES = ("clients-ca.pem", "clients-ca.key", "clients-ca.passphrase")


@dataclass(frozen=True, slots=True)
class Made:
    """A new authority, before anything is written.

    Attributes:
        changed: the next trust document.
        files: content of the new folder, by name.
        passphrase: to be shown once; empty where the centre opens the key by itself.
    """

    changed: Trust
    files: Mapping[str, bytes]
    passphrase: str


def make(options: argparse.Namespace, held: Trust, now_s: int) -> Made:
    """Make the authority and the document that names it.

    Raises:
        BadInput: no authority to replace, or one is being replaced already.
    """
    from cryptography import x509

    from ketang_provisioning import certificates, keys, region, trust_changes

    if options.overlap_days < 0:
        raise BadInput("--overlap-days: 0 or more")
    purpose = trust_changes.CA_PURPOSE[options.which]
    in_force = [one for one in held.authorities if one.purpose is purpose and one.until_s > now_s]
    if not in_force:
        raise BadInput(f"{options.trust}: names no authority for {options.which}")
    clients = options.which == "clients"
    if clients and len(in_force) > 1 and options.overlap_days:
        until = trust_changes.day(min(one.until_s for one in in_force))
        raise BadInput(
            f"{options.trust}: one is being replaced until {until}; the centre holds one earlier"
            " authority, not two. Wait, or --overlap-days 0 if a key was stolen"
        )
    before = x509.load_pem_x509_certificate(in_force[-1].certificate.encode())
    now = datetime.fromtimestamp(now_s, UTC)
    name = f"{_DATED.sub('', certificates.common_name(before))} {now:%Y%m%d}"
    lasts = region.CLIENTS_CA_LASTS if clients else region.SERVERS_CA_LASTS
    made = certificates.make_authority(name, keys.make_ec(), options.which, now=now, lasts=lasts)
    added: CertificateAuthority = region.trusted_authority(made, purpose, now_s)
    changed = trust_changes.rotate_authority(held, added, now_s, options.overlap_days * 86_400)
    passphrase = region.new_passphrase()
    stem = f"{options.which}-ca"
    files = {
        f"{stem}.pem": added.certificate.encode(),
        f"{stem}.key": keys.private_pem(made.key, passphrase.encode()),
    }
    if clients:
        files[f"{stem}.passphrase"] = f"{passphrase}\n".encode()
        files[FOR_BROKER] = changed.certificates_pem(purpose, now_s).encode()
    return Made(changed, files, "" if clients else passphrase)


def steps(options: argparse.Namespace) -> tuple[str, ...]:
    """Say what is to be done once the document is signed; commands and settings are indented."""
    zh = language(options) == "zh"
    if options.which == "servers":
        return (_SERVERS[zh].format(keys=options.keys),)
    folder = options.trust.resolve().parent
    said = {
        "keys": shlex.quote(str(options.keys)),
        "settings": folder / "center.toml",
        "broker": FOR_BROKER,
        "new": "\n".join(_lines("", _placed(options.keys.resolve(), folder))),
        "earlier": "\n".join(_lines("earlier_", _now(folder / "center.toml"))),
        "pair": shlex.quote(str(folder / "center_ingest.pem")),
        "own": shlex.quote(str(options.keys / "own")),
        "days": options.overlap_days,
    }
    text = _CLIENTS[zh] if options.overlap_days else _STOLEN[zh]
    return tuple(text.format(**said).splitlines())


def _lines(before: str, paths: tuple[str, ...]) -> list[str]:
    return [f'    {before}{key} = "{path}"' for key, path in zip(_KEYS, paths, strict=True)]


def _placed(keys: Path, folder: Path) -> tuple[str, ...]:
    """Name the new files as the settings do: relative to their folder, when they lie under it."""
    inside = keys.is_relative_to(folder)
    place = Path(os.path.relpath(keys, folder)) if inside else keys
    return tuple((place / one).as_posix() for one in _FILES)


def _now(settings: Path) -> tuple[str, ...]:
    """What the settings name now; without them, what ``provision init`` wrote."""
    if not settings.is_file():
        return _FILES
    said = read_table(settings)
    if "enrolment" not in said:
        return _FILES
    enrolment = said.table("enrolment")
    return tuple(enrolment.text(one, most=MAX_PATH) for one in _KEYS)


_SERVERS = (
    (
        "Once it is signed and with every device: make all server certificates anew from {keys}"
        " before the overlap ends (ketang provision server-certificate)."
    ),
    (
        "签署生效并送达每台设备后：在重叠期内用 {keys} 重新签发所有服务器证书"
        "（ketang provision server-certificate）。"
    ),
)
"""English, Chinese; so the others."""
_CLIENTS = (
    """\
After that, in this order, on one day. Nobody is thrown out; devices renew by themselves within
their 90 days. {keys} has to belong to the account that runs the centre.
1. At the broker: put {keys}/{broker} (the old and the new authority) over the file that
   clients_ca in its broker.toml names. Do not restart it yet.
2. In {settings}, under [enrolment], put these in the place of the three lines of these names:
{new}
   and add these:
{earlier}
3. A new certificate for the centre itself, since the old authority made the one it has:
    ketang provision client-certificate --name center_ingest --authority {keys}/clients-ca.pem \
--passphrase-file {keys}/clients-ca.passphrase --out {own}
    cp {own}/center_ingest.pem {pair}
4. Restart the centre: from now on it makes a revocation list for each of the two. Within seconds
   the broker logs broker.revocations_renewed or revocations.loaded; then restart the broker.
   Between 1 and here revocations do not reach it, so do not stop on the way.
5. Prove it: ketang broker check --settings {settings}
6. After {days} days: put {keys}/clients-ca.pem alone over the broker's file, take the three
   earlier_ lines out of the settings, restart the centre, then the broker.""",
    """\
之后在同一天内按顺序做完。谁也不会被踢出；设备会在其90天内自行续期。
{keys} 须归运行中心的系统账号所有。
1. 在消息服务器上：把 {keys}/{broker}（新旧两个CA）覆盖到 broker.toml 里 clients_ca 所指的文件。
   先不要重启。
2. 在 {settings} 的 [enrolment] 下，用下面三行替换同名的三行：
{new}
   再加上：
{earlier}
3. 给中心自己签发新证书，因为现有的那张出自旧CA：
    ketang provision client-certificate --name center_ingest --authority {keys}/clients-ca.pem \
--passphrase-file {keys}/clients-ca.passphrase --out {own}
    cp {own}/center_ingest.pem {pair}
4. 重启中心：从此它为两个CA各出一份注销列表。几秒内消息服务器会记录 broker.revocations_renewed
   或 revocations.loaded；然后重启消息服务器。从第1步到这里注销不会送达，中途不要停下。
5. 验证：ketang broker check --settings {settings}
6. {days} 天后：只把 {keys}/clients-ca.pem 覆盖到消息服务器的那个文件，从设置里去掉三行 earlier_，
   重启中心，再重启消息服务器。""",
)
_STOLEN = (
    """\
After that, at once. Every device has to enrol anew. {keys} has to belong to the
account that runs the centre.
1. At the broker: put {keys}/clients-ca.pem over the file that clients_ca in its broker.toml names.
2. In {settings}, under [enrolment], put these in the place of the three lines of these names, and
   take out every line that begins with earlier_:
{new}
3. A new certificate for the centre itself:
    ketang provision client-certificate --name center_ingest --authority {keys}/clients-ca.pem \
--passphrase-file {keys}/clients-ca.passphrase --out {own}
    cp {own}/center_ingest.pem {pair}
4. Restart the centre, then the broker. Prove it: ketang broker check --settings {settings}""",
    """\
之后立即做。每台设备都要重新接入。{keys} 须归运行中心的系统账号所有。
1. 在消息服务器上：把 {keys}/clients-ca.pem 覆盖到 broker.toml 里 clients_ca 所指的文件。
2. 在 {settings} 的 [enrolment] 下，用下面三行替换同名的三行，并去掉所有 earlier_ 开头的行：
{new}
3. 给中心自己签发新证书：
    ketang provision client-certificate --name center_ingest --authority {keys}/clients-ca.pem \
--passphrase-file {keys}/clients-ca.passphrase --out {own}
    cp {own}/center_ingest.pem {pair}
4. 重启中心，再重启消息服务器。验证：ketang broker check --settings {settings}""",
)
