"""A region's folders: one for each place they are carried to, put on disk in one step."""

import json
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
        "crl": "../broker/clients.crl",
    }
    return "\n".join(
        [
            "# Made by: ketang provision init. Paths are relative to this file.",
            *_lines(top),
            "# What the broker refused, for the security page; written by: ketang broker run",
            '# broker_refusals = "/etc/ketang/broker/refusals.jsonl"',
            "# A folder on another machine, so that a restored backup forgets no revocation.",
            '# offsite = "/mnt/elsewhere"',
            "",
            "[enrolment]",
            "# crl: where a broker on this machine reads it; without one, take the line out.",
            '# Where devices ask for a certificate. "::" listens on IPv6 and IPv4.',
            *_lines(enrolment),
            "",
        ]
    )


def _lines(values: Mapping[str, str | int]) -> list[str]:
    # A JSON string of printable text is a TOML basic string.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def read_me(names: Names, language: Language) -> str:
    """Say in plain words which folder goes where, and who keeps which passphrase."""
    return (_ENGLISH if language == "en" else _CHINESE).format(
        region=names.region,
        fingerprint=names.fingerprint,
        root_1=names.roots[0],
        root_2=names.roots[1],
        root_3=names.roots[2],
        config_1=names.config[0],
        config_2=names.config[1],
        approver=names.approver,
    )


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
  center/     the centre's machine. Owner: the service account; nobody else may read it.
              Start it with: ketang center serve --settings center/center.toml
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

3. Look now and then what ends when, on each machine: ketang provision status FOLDER
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
  center/     区域中心的机器。所有者：服务账户；其他人不得读取。
              启动：ketang center serve --settings center/center.toml
  broker/     消息代理（broker）的机器。所有者：代理的账户。
  installer/  交给制作安装程序的人。它随安装程序装到每台设备上；内容不保密，
              但绝不能和入网安装包放在一起。

2. 口令。每个口令写在纸上、封好，和它能打开的U盘分开保管。

  holder-1          {root_1}
  holder-2          {root_2}
  holder-3          {root_3}
  servers-ca        签发服务器证书的人
  config-1          {config_1}（扩大采集范围的配置须两人签署）
  config-2          {config_2}
  filing            {approver}（审批模型和备案）
  updates-root      保管更新密钥的人
  updates-targets   发布更新的人

  中心自己的口令在 center/clients-ca.passphrase 里，这样启动时不需要有人在场。
  它只防密钥文件单独被盗，防不了整台机器被盗。

3. 在每台机器上不时查看什么何时到期：ketang provision status 文件夹
"""
