"""A region's folders: one for each place they are carried to, put on disk in one step."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal, TypeAlias

from ketang_contract.errors import BadInput
from ketang_provisioning.keys import flush_folder, write_private

Language: TypeAlias = Literal["zh", "en"]
READ_ME = "READ-ME.txt"
ENROLMENT_PORT = 8443
BROKER_PORT = 8883
SHARED = "/var/lib/ketang-broker"
"""Where centre and broker of one machine meet: deploy/brokers/README.md makes it."""
_LAST = "installer/root.fingerprint"
"""Every finished region has it."""


@dataclass(frozen=True, slots=True)
class Names:
    """Who holds which key, for the text."""

    region: str
    fingerprint: str
    roots: Sequence[str]
    config: Sequence[str]
    approver: str


def is_finished(folder: Path) -> bool:
    """Tell whether a region was made here. There is no half: the folder appears as a whole."""
    return (folder / _LAST).is_file() and (folder / READ_ME).is_file()


def put(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    announce: Callable[[], None],
    write: Callable[[Path, bytes], None] = write_private,
) -> None:
    """Write a region beside its place and rename it there; a crash leaves nothing half done.

    Args:
        folder: must not exist. Folders are made 0700, files 0600.
        files: content by path within the folder.
        announce: called when all is on the disk, before the renaming: whoever is to be told
            passphrases is told before they are needed, and a run that dies is simply done again.
        write: how one file is written.

    Raises:
        BadInput: something else stands there, or it cannot be written.
    """
    draft = folder.with_name(f"{folder.name}.partial")
    if folder.is_symlink() or folder.exists():
        raise BadInput(f"{folder}: is there already and is no finished region; name another")
    _clear(draft, files)
    try:
        draft.mkdir(mode=0o700, parents=True)
        for name, content in files.items():
            path = draft / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write(path, content)
        for inner in {(draft / name).parent for name in files}:
            flush_folder(inner)
        flush_folder(draft)
        announce()
        draft.rename(folder)
        flush_folder(folder.parent)
    except OSError as problem:
        raise BadInput(f"{folder}: cannot be written: {problem.strerror or problem}") from problem


def _clear(draft: Path, files: Mapping[str, bytes]) -> None:
    """Remove what a run left that died; nobody holds those keys. Another's folder is kept."""
    if not draft.exists() and not draft.is_symlink():
        return
    strange = draft.is_symlink() or not draft.is_dir()
    for path in () if strange else draft.rglob("*"):
        name = path.relative_to(draft).as_posix()
        half = path.with_name(path.name.removeprefix(".").removesuffix(".partial"))
        known = name in files or half.relative_to(draft).as_posix() in files
        strange = strange or path.is_symlink() or not (path.is_dir() or known)
    if strange:
        raise BadInput(f"{draft}: holds other things than a broken-off run; move it away")
    shutil.rmtree(draft)


def center_toml(center_hosts: Sequence[str], broker_host: str, fingerprint: str) -> str:
    """Write the centre's settings; paths are relative to them."""
    first = center_hosts[0]
    six = _is_ipv6(first)
    url = f"https://{f'[{first}]' if six else first}:{ENROLMENT_PORT}"
    top: dict[str, str | int] = {
        "data_dir": "data",
        "broker_host": broker_host,
        "broker_port": BROKER_PORT,
        "ca": "servers-ca.pem",
        "certificate": "center_ingest.pem",
        "key": "center_ingest.pem",
        "web_host": "127.0.0.1",
        "web_port": 8080,
    }
    enrolment: dict[str, str | int] = {
        "host": "::",
        "port": ENROLMENT_PORT,
        "certificate": "center.pem",
        "key": "center.key",
        "clients_ca": "clients-ca.pem",
        "clients_ca_key": "clients-ca.key",
        "clients_ca_passphrase_file": "clients-ca.passphrase",
        "code_key": "code.key",
        "kit_key": "kit.key",
        "trust": "trust.json",
        "fingerprint": fingerprint,
        "url": url,
        "broker_host": broker_host,
        "broker_port": BROKER_PORT,
        "crl": f"{SHARED}/clients.crl",
    }
    return "\n".join(
        [
            "# Made by: ketang provision init. Paths are relative to this file.",
            *_lines(top),
            *_WEB,
            *_REFUSALS,
            f'broker_refusals = "{SHARED}/refusals.jsonl"',
            *_OFFSITE,
            "",
            "[enrolment]",
            *_lines(enrolment),
            "",
        ]
    )


_WEB = (
    "# The console for others than this machine: a certificate that browsers know; center.pem",
    "# will do where they were given servers-ca.pem. web_host above is then an address of this",
    '# machine, or "::" for all, IPv6 and IPv4.',
    '# web_certificate = "center.pem"',
    '# web_key = "center.key"',
)
_REFUSALS = (
    "# What the broker refused, for the security page: refusals in broker.toml names it.",
    "# Take it out where the broker is on another machine.",
)
_OFFSITE = (
    "# A folder on another machine, so that a restored backup forgets no revocation. Under systemd",
    "# it has to be added to ReadWritePaths.",
    '# offsite = "/mnt/elsewhere"',
)
_ABOVE: Mapping[str, str] = {
    "host": '# Where devices ask for a certificate. "::" listens on IPv6 and IPv4.',
    "url": "# How devices reach it; it stands in every kit.",
    "crl": "# The revocation list: the file that crl in broker.toml names, in a folder that both\n"
    "# accounts may write to. Take it out where the broker is on another machine, and fetches it.",
}


def _lines(values: Mapping[str, str | int]) -> list[str]:
    # A JSON string of printable text is a TOML basic string.
    said = {
        key: f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    }
    return [f"{_ABOVE[key]}\n{one}" if key in _ABOVE else one for key, one in said.items()]


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def read_me(names: Names, language: Language) -> str:
    """Say in plain words which folder goes where, and who keeps which passphrase."""
    en = language == "en"
    to_fill = "(write the name here)" if en else "（请填写姓名）"

    def who(name: str) -> str:
        return to_fill if _UNNAMED.fullmatch(name) else name

    return (_ENGLISH if en else _CHINESE).format(
        region=names.region,
        fingerprint=names.fingerprint,
        root_1=who(names.roots[0]),
        root_2=who(names.roots[1]),
        root_3=who(names.roots[2]),
        config_1=who(names.config[0]),
        config_2=who(names.config[1]),
        approver=who(names.approver),
    )


_UNNAMED = re.compile(r"(holder|config|approver)-\d")
"""What ``provision init`` calls those whose names it was not told."""


_ENGLISH = """\
Ketang: the keys of {region}
============================================================
Fingerprint of the roots:
  {fingerprint}

1. Carry each folder to its place, then destroy this copy.

  holder-1/   a memory stick of its own, to {root_1}: root key 1
  holder-2/   a memory stick of its own, to {root_2}: root key 2
  holder-3/   a memory stick of its own, to {root_3}: root key 3
              Each stick into another safe. Two of the three together can change what all
              devices trust; one alone can do nothing, and one may be lost.
  offline/    a machine without network, or a stick, into the safe. It makes server
              certificates and signs configurations, filings and updates.
  center/     the centre's machine. Owner: the centre's account; nobody else may read it.
  broker/     the broker's machine. Owner: the broker's account.
  installer/  to whoever builds the installer. It goes onto every device; it is not secret,
              and it must never travel with an enrolment kit.

2. Passphrases. Write each on paper, seal it, keep it away from the stick it opens.

  holder-1          {root_1}
  holder-2          {root_2}
  holder-3          {root_3}
  servers-ca        who makes server certificates
  config-1          {config_1} (a configuration that widens collection needs both)
  config-2          {config_2}
  filing            {approver} (approves models and filings)
  updates-root      who keeps the update keys
  updates-targets   who publishes updates

  The centre's own passphrase is in center/clients-ca.passphrase, so that it can start without
  a person. It shuts out a thief of the key file alone, not a thief of the machine.

3. Then, on these machines; docs/guides/center.md says more, step by step.

  ketang broker config mosquitto --region broker --out FOLDER --host :: --host 0.0.0.0
  ketang broker run --config FOLDER
  ketang center units units.csv --settings center/center.toml
  ketang center account add NAME --role admin --role operator --role viewer --unit REGION \\
    --settings center/center.toml
  ketang center serve --settings center/center.toml
  ketang broker check --settings center/center.toml

4. Look now and then what ends when, on each machine: ketang provision status FOLDER
"""

_CHINESE = """\
课堂（Ketang）：{region} 的密钥
============================================================
根密钥指纹：
  {fingerprint}

1. 把每个文件夹送到它的位置，然后销毁这里的这一份。

  holder-1/   单独一个U盘，交给 {root_1}：根密钥 1
  holder-2/   单独一个U盘，交给 {root_2}：根密钥 2
  holder-3/   单独一个U盘，交给 {root_3}：根密钥 3
              三个U盘分别放进不同的保险柜。任意两位在一起可以改变所有设备信任的内容；
              一位单独什么也做不了，丢失一个也不要紧。
  offline/    不联网的机器，或一个U盘，放进保险柜。用来签发服务器证书，
              签署配置、备案和更新。
  center/     区域中心的机器。所有者：中心的系统账号；其他人不得读取。
  broker/     消息服务器的机器。所有者：消息服务器的系统账号。
  installer/  交给制作安装程序的人。它随安装程序装到每台设备上；内容不保密，
              但绝不能和接入包放在一起。

2. 密钥口令。每个都写在纸上、封好，和它能打开的U盘分开保管。

  holder-1          {root_1}
  holder-2          {root_2}
  holder-3          {root_3}
  servers-ca        签发服务器证书的人
  config-1          {config_1}（扩大采集范围的配置须两人签署）
  config-2          {config_2}
  filing            {approver}（审批模型和备案）
  updates-root      保管更新密钥的人
  updates-targets   发布更新的人

  中心自己的密钥口令在 center/clients-ca.passphrase 里，这样启动时不需要有人在场。
  它只防密钥文件单独被盗，防不了整台机器被盗。

3. 然后在这些机器上执行；逐步说明见 docs/guides/center.zh.md。

  ketang broker config mosquitto --region broker --out 文件夹 --host :: --host 0.0.0.0
  ketang broker run --config 文件夹
  ketang center units units.csv --settings center/center.toml
  ketang center account add 姓名 --role admin --role operator --role viewer --unit 区域代码 \\
    --settings center/center.toml
  ketang center serve --settings center/center.toml
  ketang broker check --settings center/center.toml

4. 在每台机器上不时查看什么何时到期：ketang provision status 文件夹
"""
