"""Private keys: made, named, and kept in files that only their owner may read.

P-256 for TLS, since every broker and device speaks it; Ed25519 for signed documents.
"""

import os
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ketang_contract import signatures
from ketang_contract.errors import BadInput

PrivateKey: TypeAlias = EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey: TypeAlias = EllipticCurvePublicKey | Ed25519PublicKey


def make_ec() -> EllipticCurvePrivateKey:
    """Make a P-256 key, for a certificate."""
    return generate_private_key(SECP256R1())


def make_ed25519() -> Ed25519PrivateKey:
    """Make an Ed25519 key, for signing documents."""
    return Ed25519PrivateKey.generate()


def key_id(public: PublicKey) -> str:
    """Name a key: SHA-256 of its SubjectPublicKeyInfo in DER, 64 hex digits."""
    return signatures.key_id(public_pem(public))


def public_pem(public: PublicKey) -> str:
    """Write a public key as PEM (SubjectPublicKeyInfo, RFC 7468)."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Write a private key as PEM (PKCS#8); encrypted when a passphrase is given."""
    return key.private_bytes(
        Encoding.PEM,
        PrivateFormat.PKCS8,
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption(),
    )


def save_private(path: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    """Keep a private key in a file (0600); encrypted when a passphrase is given."""
    write_private(path, private_pem(key, passphrase))


def load_private(path: Path, passphrase: bytes | None) -> PrivateKey:
    """Read a key that ``save_private`` wrote.

    Raises:
        BadInput: it cannot be read, is no key of a kind we use, or has another passphrase.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
    except TypeError as problem:  # encrypted and no passphrase given, or the reverse
        wanted = "needs its passphrase" if passphrase is None else "is not encrypted"
        raise BadInput(f"{path}: the key {wanted}") from problem
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise BadInput(f"{path}: not a private key, or a wrong passphrase") from problem
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise BadInput(f"{path}: a key of a kind not used here; accepted: P-256, Ed25519")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read (0600): whole, or not at all.

    It is written beside its place and renamed, so that a loss of power leaves the old one or the
    new one; both file and folder are flushed to the disk.
    """
    draft = path.with_name(f".{path.name}.partial")
    draft.unlink(missing_ok=True)  # left by a crash
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power; nothing to do where that is automatic."""
    if os.name == "nt":
        return  # a folder cannot be opened there, and NTFS journals its names
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
