"""``ketang provision trust``: draft the next trust document, have it signed, check it."""

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli.provision_region import add_language, add_passphrase, language, read_passphrase
from ketang_contract.errors import BadInput
from ketang_contract.ids import is_identifier
from ketang_contract.trust import (
    CA_PURPOSES,
    MAX_DOCUMENT_BYTES,
    Purpose,
    RootKey,
    Trust,
    TrustedKey,
    TrustRefused,
    accept,
    read_accepted,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def add_actions(actions: Any) -> None:
    """Declare ``trust`` and what it can do."""
    trust = actions.add_parser("trust", help="change what the region's devices believe")
    steps = trust.add_subparsers(dest="step", required=True, metavar="STEP")
    rotate = _drafting(steps, "rotate-ca", "name a new authority beside the old one")
    rotate.add_argument("which", choices=("clients", "servers"))
    rotate.add_argument("--keys", type=Path, required=True, metavar="FOLDER", help="a new one")
    rotate.add_argument("--overlap-days", type=int, default=90, metavar="N")
    revoke = _drafting(steps, "revoke-key", "take a key out of force for good")
    revoke.add_argument("key_id", metavar="ID")
    revoke.add_argument("--why", required=True, metavar="TEXT")
    replace = _drafting(steps, "replace-root", "put a new root in the place of one")
    replace.add_argument("--root", required=True, metavar="ID", help="the one that goes")
    adding = _drafting(steps, "add-key", "name another key")
    purposes = [one.value for one in Purpose if one not in CA_PURPOSES]
    adding.add_argument("--purpose", choices=purposes, required=True)
    adding.add_argument("--scope", default="", metavar="UNIT", help="the region, unless told")
    adding.add_argument("--days", type=int, default=3 * 365, metavar="N")
    adding.add_argument(
        "--epoch", type=int, metavar="N", help="begin a new line of versions, after a key was burnt"
    )
    for one in (replace, adding):
        one.add_argument("--public", type=Path, required=True, metavar="FILE.pub")
        one.add_argument("--holder", required=True, metavar="NAME")
    _drafting(steps, "renew", "say the same again for two years more")
    made = steps.add_parser("new-key", help="make a signing key, FILE and FILE.pub")
    made.add_argument("out", type=Path, metavar="FILE.key")
    made.add_argument("--online", action="store_true", help="for a machine that runs alone")
    add_language(made)
    sign = steps.add_parser("sign", help="add a root holder's signature to a draft")
    sign.add_argument("--key", type=Path, required=True, metavar="ROOT.KEY")
    add_passphrase(sign)
    sign.add_argument("--yes", action="store_true", help="sign without being asked: for scripts")
    check = steps.add_parser("check", help="show what a document changes, and whether it is valid")
    check.add_argument("--fingerprint", default="", metavar="HEX", help="for a first document")
    held = sign.add_mutually_exclusive_group(required=True)
    held.add_argument("--first", action="store_true", help="there is no document in force yet")
    for one, named in ((sign, held), (check, check)):
        one.add_argument("file", type=Path, metavar="FILE")
        named.add_argument("--held", type=Path, metavar="TRUST.JSON", help="the document in force")
        add_language(one)


def _drafting(steps: Any, name: str, told: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = steps.add_parser(name, help=told)
    parser.add_argument(
        "--trust", type=Path, required=True, metavar="TRUST.JSON", help="the document in force"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DRAFT.JSON")
    add_language(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Do the chosen step.

    Raises:
        BadInput: a person's mistake, in one line.
        Refused: a file is no trust document.
    """
    if options.step == "new-key":
        return _new_key(options)
    if options.step == "sign":
        return _sign(options)
    if options.step == "check":
        return _check(options)
    return _draft(options)


def _draft(options: argparse.Namespace) -> int:
    from ketang_provisioning import trust_changes

    held, now_s = read_accepted(_read(options.trust)), int(datetime.now(UTC).timestamp())
    if options.out.exists():
        raise BadInput(f"{options.out}: is there already; nothing is overwritten")
    if options.out.resolve().parent == options.trust.resolve().parent and options.out.match(
        "trust*.json"
    ):
        raise BadInput(f"{options.out}: the centre would take it for a version in force; rename it")
    steps: tuple[str, ...] = ()
    if options.step == "rotate-ca":
        changed, steps = _rotate(options, held, now_s)
    elif options.step == "revoke-key":
        changed = trust_changes.revoke_key(held, options.key_id, options.why, now_s)
    elif options.step == "replace-root":
        root = RootKey(*_public(options.public), options.holder)
        changed = trust_changes.replace_root(held, options.root, root, now_s)
    elif options.step == "add-key":
        changed = trust_changes.add_key(held, _added(options, held, now_s), now_s)
    else:
        changed = trust_changes.renew(held, now_s)
    if options.step != "rotate-ca":
        write_draft(options.out, changed)
    for line in trust_changes.differences(held, changed, language(options)):
        print(line)
    for line in (*_to_be_signed(options, held), *steps):
        print(line)
    return 0


def write_draft(out: Path, changed: Trust) -> None:
    """Write a document that nobody has signed yet.

    Raises:
        BadInput: it cannot be written.
    """
    from ketang_provisioning import trust_changes
    from ketang_provisioning.keys import write_private

    try:
        write_private(out, trust_changes.draft(changed))
    except OSError as problem:
        raise BadInput(f"{out}: cannot be written: {problem.strerror}") from problem


def _to_be_signed(options: argparse.Namespace, held: Trust) -> tuple[str, ...]:
    """Where draft and document go now: the whole command, for each holder."""
    draft, trust = shlex.quote(str(options.out)), shlex.quote(str(options.trust))
    sign = f"    ketang provision trust sign --key ROOT.KEY --held {trust} {draft}"
    check = f"    ketang provision trust check --held {trust} {draft}"
    before = f"trust-{held.version}.json"
    if language(options) == "zh":
        return (
            (
                f"草稿：{options.out}。和现行文件 {options.trust} 一起依次带给两位根密钥持有人，"
                "各自在自己的机器上执行："
            ),
            sign,
            "两人都签完后检查，须显示 valid：",
            check,
            (
                f"然后在中心把现行的 trust.json 改名为 {before}（留在原处），把签好的文件放到"
                " trust.json 的位置，再重启中心。"
            ),
        )
    return (
        (
            f"Draft: {options.out}. Carry it, with the document in force ({options.trust}), to two"
            " root holders, one after the other; each on a machine of their own:"
        ),
        sign,
        "When both have signed, check it; it must say valid:",
        check,
        (
            f"Then, at the centre, rename the trust.json in force to {before} (it stays beside),"
            " put the signed file in its place as trust.json, and restart the centre."
        ),
    )


def _added(options: argparse.Namespace, held: Trust, now_s: int) -> TrustedKey:
    from ketang_provisioning import trust_changes

    if options.days < 1:
        raise BadInput("--days: 1 at least")
    if options.scope and not is_identifier(options.scope):
        raise BadInput(f"--scope {options.scope[:40]!r}: accepted: a-z, 0-9 and '-'")
    key_id, public = _public(options.public)
    until_s = now_s + options.days * 86_400
    purpose = Purpose(options.purpose)
    epoch = trust_changes.epoch_for(held, purpose, options.scope, options.epoch)
    return TrustedKey(key_id, public, purpose, options.scope, options.holder, now_s, until_s, epoch)


def _rotate(options: argparse.Namespace, held: Trust, now_s: int) -> tuple[Trust, tuple[str, ...]]:
    from ketang_cli import provision_rotation
    from ketang_provisioning import region_files

    made = provision_rotation.make(options, held, now_s)

    def announce() -> None:
        write_draft(options.out, made.changed)
        if made.passphrase:
            _print_passphrase(options, f"{options.which}-ca", made.passphrase)

    if options.keys.exists():
        raise BadInput(f"{options.keys}: is there already; name a new folder")
    try:
        region_files.put(options.keys, made.files, announce=announce)
    except BadInput:
        options.out.unlink(missing_ok=True)  # without the keys it names nothing that is there
        raise
    return made.changed, provision_rotation.steps(options)


def _new_key(options: argparse.Namespace) -> int:
    from ketang_provisioning import keys, region

    public = options.out.with_suffix(".pub")
    if options.out.suffix != ".key":
        raise BadInput(f"{options.out}: the name of a key ends in .key")
    for path in (options.out, public):
        if path.exists():
            raise BadInput(f"{path}: is there already; nothing is overwritten")
    key = keys.make_ed25519()
    passphrase = None if options.online else region.new_passphrase()
    if passphrase is not None:
        _print_passphrase(options, options.out.name, passphrase)
    keys.save_private(options.out, key, passphrase.encode() if passphrase else None)
    keys.write_private(public, keys.public_pem(key.public_key()).encode())
    print(f"{public}: {keys.key_id(key.public_key())}")
    return 0


def _print_passphrase(options: argparse.Namespace, what: str, passphrase: str) -> None:
    zh = language(options) == "zh"
    told = "的密钥口令，只显示这一次：" if zh else ", its passphrase, shown this once:"
    print(f"{what}{told}  {passphrase}", flush=True)


def _sign(options: argparse.Namespace) -> int:
    from ketang_provisioning import trust_changes
    from ketang_provisioning.keys import load_private, write_private

    raw, held = _read(options.file), _held(options)
    said = trust_changes.drafted(raw)
    _check_next(options, said, held)
    for line in trust_changes.differences(held, said, language(options)):
        print(line)
    if held is None:
        print(f"fingerprint of its roots: {said.fingerprint}")
    _ask(options)
    passphrase = read_passphrase(options.passphrase_file, str(options.key))
    key = load_private(options.key, passphrase)
    signed = trust_changes.sign(raw, _ed25519(options.key, key), held)
    write_private(options.file, signed)
    _print_progress(signed, held)
    return 0


def _check_next(options: argparse.Namespace, said: Trust, held: Trust | None) -> None:
    """Refuse to compare with a document that is none in force before this one."""
    if held is None and said.version != 1:
        raise BadInput(f"{options.file}: version {said.version} is no first document: name --held")
    if held is not None and said.version <= held.version:
        raise BadInput(
            f"{options.file}: version {said.version}, not newer than version {held.version} in"
            f" {options.held}"
        )


def _ask(options: argparse.Namespace) -> None:
    """Let a person say yes to what was shown.

    Raises:
        BadInput: they did not, or there is nobody.
    """
    if options.yes:
        return
    zh = language(options) == "zh"
    try:
        said = input(
            "以上是签署后设备信任内容的全部变化。要签署请输入 yes："
            if zh
            else "That is all that changes in what devices believe. Type yes to sign it: "
        )
    except EOFError:
        raise BadInput("nobody answered; a script says --yes") from None
    if said.strip().lower() != "yes":
        raise BadInput(f"{options.file}: not signed")


def _ed25519(path: Path, key: Any) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path}: not an Ed25519 key")
    return key


def _check(options: argparse.Namespace) -> int:
    from ketang_provisioning import trust_changes

    raw, held = _read(options.file), _held(options)
    said = trust_changes.drafted(raw)
    for line in trust_changes.differences(held, said, language(options)):
        print(line)
    print(f"fingerprint of its roots: {said.fingerprint}")
    _print_progress(raw, held)
    if held is None and not options.fingerprint:
        raise BadInput("whether it is valid depends: name --held, or --fingerprint for a first one")
    now_s = int(datetime.now(UTC).timestamp())
    try:
        accept(raw, fingerprint=options.fingerprint, now_s=now_s, held=held)
    except TrustRefused as problem:
        print(f"NOT valid: {problem}")
        return 1
    print("valid")
    return 0


def _print_progress(raw: bytes, held: Trust | None) -> None:
    from ketang_provisioning import trust_changes

    done = trust_changes.progress(raw, held)
    old = f"{done.old} of {done.old_needed} of the roots in force, " if held else ""
    print(f"signed by: {old}{done.new} of {done.new_needed} of the roots it names")


def _held(options: argparse.Namespace) -> Trust | None:
    return None if options.held is None else read_accepted(_read(options.held))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise BadInput(f"{path}: larger than {MAX_DOCUMENT_BYTES} bytes; that is the wrong file")
    return raw


def _public(path: Path) -> tuple[str, str]:
    from ketang_contract import signatures

    try:
        pem = _read(path).decode("ascii")
    except UnicodeDecodeError as problem:
        raise BadInput(f"{path}: not a public key in PEM") from problem
    return signatures.key_id(pem), pem
