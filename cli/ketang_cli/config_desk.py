"""What every signing of a configuration needs: the keys, the document in force, a person's yes."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_cli.config_reading import read_bytes
from ketang_cli.provision_region import Language, add_language, language, read_passphrase
from ketang_contract.errors import BadInput
from ketang_contract.trust import MAX_DOCUMENT_BYTES, Trust, read_accepted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Desk:
    """One signing: the person's options, the trust document they name, and the time."""

    options: argparse.Namespace
    trust: Trust
    now_s: int

    @property
    def language(self) -> Language:
        """The language the person is told things in."""
        return language(self.options)

    def say(self, chinese: str, english: str) -> None:
        """Print a line in the person's language."""
        print(chinese if self.language == "zh" else english)


def add_signing(parser: argparse.ArgumentParser) -> None:
    """Declare the document in force, keys and passphrases, and ``--yes``."""
    parser.add_argument(
        "--trust", type=Path, required=True, metavar="TRUST.JSON", help="the document in force"
    )
    parser.add_argument(
        "--key", type=Path, action="append", required=True, metavar="FILE.KEY", help="again for two"
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="one for each --key, in the same order; else it is asked for",
    )
    parser.add_argument("--yes", action="store_true", help="sign without being asked: for scripts")
    add_language(parser)


def open_desk(options: argparse.Namespace) -> Desk:
    """Read the document in force, and the clock.

    Raises:
        BadInput: the file cannot be read.
        TrustRefused: it is no trust document.
    """
    trust = read_accepted(read_bytes(options.trust, MAX_DOCUMENT_BYTES))
    return Desk(options, trust, int(datetime.now(UTC).timestamp()))


def ask(desk: Desk) -> None:
    """Let a person say yes to what was shown.

    Raises:
        BadInput: they did not, or there is nobody.
    """
    if desk.options.yes:
        return
    try:
        said = input(
            "以上是将要签署的全部内容。要签署请输入 yes："
            if desk.language == "zh"
            else "That is all that will be signed. Type yes to sign it: "
        )
    except EOFError:
        raise BadInput("nobody answered; a script says --yes") from None
    if said.strip().lower() != "yes":
        raise BadInput(f"{desk.options.file}: not signed")


def keys(desk: Desk) -> "list[Ed25519PrivateKey]":
    """Open the keys that were named, each with its passphrase.

    Raises:
        BadInput: one cannot be opened, or is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ketang_provisioning.keys import load_private

    files: list[Path] = desk.options.passphrase_file
    if files and len(files) != len(desk.options.key):
        raise BadInput("--passphrase-file: one for each --key, in the same order")
    made = []
    for at, path in enumerate(desk.options.key):
        passphrase = read_passphrase(files[at] if files else None, str(path))
        key = load_private(path, passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"{path}: not an Ed25519 key")
        made.append(key)
    return made


def refuse_overwriting(path: Path) -> None:
    """Refuse to write where something is.

    Raises:
        BadInput: something is there.
    """
    if path.exists():
        raise BadInput(f"{path}: is there already; nothing is overwritten")


def write(path: Path, content: bytes) -> None:
    """Write what was signed, whole or not at all.

    Raises:
        BadInput: it cannot be written.
    """
    from ketang_provisioning.keys import write_private

    try:
        write_private(path, content)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be written: {problem.strerror}") from problem
