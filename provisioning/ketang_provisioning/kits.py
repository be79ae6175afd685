"""Enrolment kits: what a technician carries on a USB stick, or finds in a QR code.

A kit names a centre and a code. It is signed, so that a stick from the street that names another
centre is refused before anything is sent; what it is checked against, the fingerprint of the root
set, comes with the installer and is never written here.
"""

import io
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from ketang_contract.errors import BadInput, Refused
from ketang_contract.kit import (
    KIT_FILE,
    KIT_TYPE,
    TRUST_FILE,
    Kit,
    Line,
    center_url,
    make_line,
    normalise_code,
)
from ketang_contract.signatures import seal
from ketang_contract.trust import Purpose, read_accepted
from ketang_provisioning.keys import PrivateKey, key_id, write_private

READ_ME = "READ-ME.txt"
_OURS = frozenset({KIT_FILE, TRUST_FILE, READ_ME})
_CHINA = timezone(timedelta(hours=8))
_TEXT = """\
课堂终端管理 - 学校接入包
========================
学校：{school}
有效期至：{until}（北京时间）

1. 先用本地区教育部门提供的安装程序安装 ketang（本 U 盘里没有安装程序）。
2. 插入本 U 盘，以管理员身份运行：
   ketang enroll --owner ketang --kit 本文件夹或 .zip 的路径
3. 运行：  ketang agent doctor --settings /etc/ketang/agent.toml   没有 WRONG 即完成。
   第 2 步若说 not enrolled yet（等待批准），不要重装：批准后再运行同一行，它会接着办。

本接入包里有接入码。用完请收回；遗失请立即通知区县管理员作废。
不要改动 kit.json 和 trust.json：改动后设备会拒绝。

Ketang - a school's installation kit
====================================
School: {school}
Valid until: {until} (Beijing time)

1. First install ketang with your region's installer (it is not on this stick).
2. Plug this stick in and run as administrator:
   ketang enroll --owner ketang --kit PATH-OF-THIS-FOLDER-OR-ZIP
3. Run:  ketang agent doctor --settings /etc/ketang/agent.toml   Done when no line says WRONG.
   Step 2 says "not enrolled yet": do not install again. Run the same line once it is approved;
   it goes on where it was.

This kit holds an installation code. Collect it when you are done; if it is lost, have the code
withdrawn at once. Do not change kit.json or trust.json: a device refuses what was changed.
"""


def write_kit(target: Path, kit: Kit, key: PrivateKey, trust: bytes) -> None:
    """Write a kit: a .zip where the name ends so, else a folder, which is made.

    Args:
        target: the folder or .zip; a kit that is there is replaced, nothing else is touched.
        kit: what it says.
        key: the kit key, which the trust document names with the purpose ``kit``.
        trust: the trust document as it was signed.

    Raises:
        BadInput: the target holds other things, cannot be written, or a part is wrong.
    """
    files = kit_files(kit, key, trust)
    try:
        if target.suffix.lower() == ".zip":
            write_private(target, _zipped(files, kit.made_s))
        else:
            _refuse_strangers(target)
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in files.items():
                write_private(target / name, content)
    except OSError as problem:
        raise BadInput(f"{target}: cannot be written: {problem.strerror}") from problem


def kit_files(kit: Kit, key: PrivateKey, trust: bytes) -> dict[str, bytes]:
    """Return the files of a kit by name.

    Raises:
        BadInput: every device would refuse it: the trust document does not name its key.
    """
    try:
        trusted = read_accepted(trust)
    except Refused as problem:
        raise BadInput(f"{TRUST_FILE}: no trust document: {problem}") from problem
    name = key_id(key.public_key())
    if not any(
        one.key_id == name and one.scope in {"", kit.school}
        for one in trusted.keys_for(Purpose.KIT, kit.made_s)
    ):
        raise BadInput(
            f"{TRUST_FILE}: names no kit key {name[:12]}… that is in force for {kit.school};"
            " sign a trust document that does, or use the key it names"
        )
    until = datetime.fromtimestamp(kit.expires_s, UTC).astimezone(_CHINA)
    text = _TEXT.format(school=kit.school, until=f"{until:%Y-%m-%d %H:%M}")
    return {
        KIT_FILE: seal(kit.payload(), KIT_TYPE, [key]),
        TRUST_FILE: trust,
        # Notepad on an old Windows takes a file without the mark for GBK, and needs the line ends.
        READ_ME: text.replace("\n", "\r\n").encode("utf-8-sig"),
    }


def zip_kit(kit: Kit, key: PrivateKey, trust: bytes) -> bytes:
    """Return a kit as a .zip; raises as ``kit_files``."""
    return _zipped(kit_files(kit, key, trust), kit.made_s)


def qr_text(kit: Kit) -> str:
    """Return the one-line form of a kit. It is not signed; see ``ketang_contract.kit``."""
    return make_line(Line(kit.url, kit.code))


def new_kit(*, url: str, code: str, school: str, made_s: int, expires_s: int) -> Kit:
    """Return a kit's content, checked.

    Raises:
        BadInput: the address or the code is wrong, or it would never be valid.
    """
    if expires_s <= made_s:
        raise BadInput("kit: expires before it is made")
    return Kit(
        url=center_url(url),
        code=normalise_code(code),
        school=school,
        made_s=made_s,
        expires_s=expires_s,
    )


def _refuse_strangers(folder: Path) -> None:
    if not folder.is_dir():
        return
    others = sorted(one.name for one in folder.iterdir() if one.name not in _OURS)
    if others:
        raise BadInput(
            f"{folder}: holds other things ({', '.join(others[:3])}); name a folder of its own,"
            f" e.g. {folder / 'ketang-kit'}"
        )


def _zipped(files: dict[str, bytes], made_s: int) -> bytes:
    out = io.BytesIO()
    made = datetime.fromtimestamp(made_s, UTC)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, made.timetuple()[:6])
            member.external_attr = 0o600 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
