"""``ketang filing``: file models, algorithms and apps (备案), and sign filings and camera grants.

``check``, ``sign``, ``grant`` and ``add-signature`` need no centre: they run where the keys are.
The others act on the register of the centre whose settings they are given (``filing_center``).
"""

import argparse
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_cli import filing_center
from ketang_cli.provision_region import add_language, add_passphrase, language, read_passphrase
from ketang_contract.errors import BadInput, Refused
from ketang_contract.trust import MAX_DOCUMENT_BYTES, Purpose, Trust, read_accepted

if TYPE_CHECKING:
    from ketang_contract.permits import Document
    from ketang_contract.signatures import PrivateKey

_CHINA = timezone(timedelta(hours=8))
USUAL_FILING_DAYS, USUAL_GRANT_DAYS = 365, 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="show a proposal, filing or grant; is it believed?")
    check.add_argument("file", type=Path, metavar="FILE", help="a proposal (.toml), or signed")
    check.add_argument("--trust", type=Path, metavar="TRUST.JSON", help="the document in force")
    check.add_argument(
        "--above",
        nargs="+",
        default=[],
        metavar="UNIT",
        help="the units above its own, from the top",
    )
    add_language(check)
    sign = actions.add_parser("sign", help="make a filing of a proposal: the approver's act")
    sign.add_argument("file", type=Path, metavar="PROPOSAL.TOML")
    sign.add_argument(
        "--days", type=int, default=USUAL_FILING_DAYS, metavar="N", help="0 ends the one before"
    )
    sign.add_argument("--out", type=Path, required=True, metavar="FILING.JSON")
    _signing(sign)
    _add_grant(actions.add_parser("grant", help="draft a camera grant for a school, to be signed"))
    adding = actions.add_parser("add-signature", help="sign a drafted grant: school, then approver")
    adding.add_argument("file", type=Path, metavar="GRANT.JSON")
    _signing(adding)
    filing_center.add_actions(actions)


def _add_grant(grant: argparse.ArgumentParser) -> None:
    grant.add_argument("--school", required=True, metavar="UNIT")
    grant.add_argument(
        "--target", default="", metavar="ID", help="a room or device; else all of it"
    )
    grant.add_argument(
        "--from", dest="from_day", default="", metavar="YYYY-MM-DD", help="today, unless told"
    )
    grant.add_argument(
        "--days", type=int, default=USUAL_GRANT_DAYS, metavar="N", help="0 ends the one before"
    )
    grant.add_argument("--holder", default="", metavar="NAME", help="who signs for the school")
    grant.add_argument("--approver", default="", metavar="NAME")
    grant.add_argument("--trust", type=Path, required=True, metavar="TRUST.JSON")
    grant.add_argument("--out", type=Path, required=True, metavar="GRANT.JSON")
    add_language(grant)


def _signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="HOLDER.KEY")
    add_passphrase(parser)
    parser.add_argument("--trust", type=Path, required=True, metavar="TRUST.JSON")
    parser.add_argument("--yes", action="store_true", help="sign without being asked: for scripts")
    add_language(parser)


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, in one line.
        Refused: a file is neither a filing nor a grant.
    """
    if options.action == "check":
        return _check(options)
    if options.action == "sign":
        return _sign(options)
    if options.action == "grant":
        return _grant(options)
    if options.action == "add-signature":
        return _add_signature(options)
    return filing_center.run(options)


def _check(options: argparse.Namespace) -> int:
    from ketang_provisioning import permits

    if options.file.suffix == ".toml":
        _show(permits.write_proposal(permits.read_proposal(options.file)).splitlines())
        return 0
    raw = read_file(options.file)
    said = permits.drafted(raw)
    _show(_lines(said, zh=language(options) == "zh"))
    if options.trust is None:
        raise BadInput("whether it is believed depends: name --trust with the document in force")
    trust = _trust(options.trust)
    for key in permits.signers(raw, trust):
        print(f"signed by: {key.holder} ({_what(key.purpose)}, {key.scope or 'region'})")
    try:
        permits.check(raw, trust, _now_s(), options.above)
    except Refused as why:
        print(f"NOT believed: {why}")
        return 1
    print("believed")
    return 0


def _sign(options: argparse.Namespace) -> int:
    from ketang_provisioning import permits

    _refuse_existing(options.out)
    trust, proposal = _trust(options.trust), permits.read_proposal(options.file)
    _show(permits.write_proposal(proposal).splitlines())
    zh = language(options) == "zh"
    print(f"有效期 {options.days} 天" if zh else f"for {options.days} days")
    _ask(options)
    raw = permits.sign_filing(proposal, _key(options), trust, now_s=_now_s(), days=options.days)
    _write(options.out, raw)
    print(f"{options.out}: {permits.drafted(raw).approver}")
    return 0


def _grant(options: argparse.Namespace) -> int:
    from ketang_provisioning import permits

    _refuse_existing(options.out)
    now_s = _now_s()
    raw = permits.draft_grant(
        target=options.target or options.school,
        school=options.school,
        trust=_trust(options.trust),
        now_s=now_s,
        from_s=_day(options.from_day) if options.from_day else now_s,
        days=options.days,
        holder=options.holder,
        approver=options.approver,
    )
    _write(options.out, raw)
    _show(_lines(permits.drafted(raw), zh=language(options) == "zh"))
    told = f"ketang filing add-signature --key HOLDER.KEY --trust {options.trust} {options.out}"
    print(
        f"还须两人签署，各自执行：{told}"
        if language(options) == "zh"
        else f"Both named have to sign it now, each with: {told}"
    )
    return 0


def _add_signature(options: argparse.Namespace) -> int:
    from ketang_provisioning import permits

    raw, trust = read_file(options.file), _trust(options.trust)
    _show(_lines(permits.drafted(raw), zh=language(options) == "zh"))
    _ask(options)
    signed = permits.add_signature(raw, _key(options), trust, _now_s())
    _write(options.file, signed)
    for key in permits.signers(signed, trust):
        print(f"signed by: {key.holder} ({_what(key.purpose)}, {key.scope or 'region'})")
    return 0


def _lines(said: "Document", *, zh: bool) -> list[str]:
    """What a signer is shown: every field, one a line."""
    from ketang_contract.records import to_json

    names = _NAMES if zh else {}
    found = []
    for name, value in to_json(said).items():
        told = _moment(value) if name.endswith("_s") else value
        text = ", ".join(told) if isinstance(told, list) else str(told)
        found.append(f"{names.get(name, name.removesuffix('_s'))}: {text}")
    return found


_NAMES = {
    "subject": "备案对象",
    "name": "名称",
    "version": "版本",
    "sha256": "文件 SHA-256",
    "number": "备案号",
    "purpose": "用途",
    "data": "使用的数据",
    "approver": "审批人",
    "scope": "适用范围",
    "target": "授权对象",
    "school": "学校",
    "holder": "学校签署人",
    "issued_s": "签发时间",
    "from_s": "开始时间",
    "until_s": "结束时间",
    "expires_s": "到期时间",
}


def _what(purpose: Purpose) -> str:
    return "approver" if purpose is Purpose.FILING else purpose.value


def _show(lines: list[str]) -> None:
    for line in lines:
        # others' words steer no terminal
        print("".join(one if one.isprintable() else "?" for one in line))


def _ask(options: argparse.Namespace) -> None:
    """Let a person say yes to what was shown.

    Raises:
        BadInput: they did not, or there is nobody.
    """
    if options.yes:
        return
    zh = language(options) == "zh"
    try:
        said = input("以上是全部内容。要签署请输入 yes：" if zh else "Type yes to sign this: ")
    except EOFError:
        raise BadInput("nobody answered; a script says --yes") from None
    if said.strip().lower() != "yes":
        raise BadInput(f"{options.file}: not signed")


def _key(options: argparse.Namespace) -> "PrivateKey":
    from ketang_provisioning.keys import load_private

    return load_private(options.key, read_passphrase(options.passphrase_file, str(options.key)))


def _trust(path: Path) -> Trust:
    return read_accepted(read_file(path))


def read_file(path: Path) -> bytes:
    """Read a signed document.

    Raises:
        BadInput: it cannot be read, or is larger than any is.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise BadInput(f"{path}: larger than {MAX_DOCUMENT_BYTES} bytes; that is the wrong file")
    return raw


def _write(path: Path, raw: bytes) -> None:
    from ketang_provisioning.keys import write_private

    try:
        write_private(path, raw)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be written: {problem.strerror}") from problem


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise BadInput(f"{path}: is there already; nothing is overwritten")


def _day(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=_CHINA).timestamp())
    except ValueError:
        raise BadInput(f"--from: {text[:20]!r} is no day; accepted: YYYY-MM-DD") from None


def _moment(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone(_CHINA):%Y-%m-%d %H:%M} (UTC+8)"


def _now_s() -> int:
    return int(time.time())
