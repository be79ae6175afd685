"""The next version of the trust document: drafted, carried to the holders, signed, checked.

A change is a new value made from the one held. Its draft is an envelope without signatures; each
holder adds one on a machine of their own. It is valid when the threshold of the roots held and the
threshold of the roots it names have signed (``trust``, rule 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from ketang_contract import signatures
from ketang_contract.errors import BadInput
from ketang_contract.trust import (
    CA_PURPOSES,
    PAYLOAD_TYPE,
    CertificateAuthority,
    Purpose,
    RevokedKey,
    RootKey,
    Trust,
    TrustedKey,
    parse,
)
from ketang_provisioning.certificates import Usage, common_name
from ketang_provisioning.keys import key_id

Language: TypeAlias = Literal["zh", "en"]
OVERLAP_S = 90 * 86_400
"""How long an old authority stays beside the new one: a device's certificate lasts as long."""
LASTS_S = 2 * 365 * 86_400
CA_PURPOSE: dict[Usage, Purpose] = {"clients": Purpose.CLIENTS_CA, "servers": Purpose.SERVERS_CA}
MOST_EPOCH = 2**31 - 1
_SHORT_ID = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of the signatures that a draft needs are there."""

    old: int
    old_needed: int
    new: int
    new_needed: int


def renew(held: Trust, now_s: int) -> Trust:
    """Say the same again, for two years more; what has ended is left out.

    A key that ended stays while it alone says which epoch its scope's lines of versions are in:
    devices have accepted numbers of that epoch, and would take none of an earlier one.
    """
    return replace(
        held,
        version=held.version + 1,
        issued_s=now_s,
        expires_s=now_s + LASTS_S,
        keys=tuple(one for one in held.keys if one.until_s > now_s or _began_a_line(one, held)),
        authorities=tuple(one for one in held.authorities if one.until_s > now_s),
    )


def rotate_authority(
    held: Trust, added: CertificateAuthority, now_s: int, overlap_s: int = OVERLAP_S
) -> Trust:
    """Name another authority; the ones before it end after the overlap.

    Args:
        held: the document in force.
        added: the new one.
        now_s: when it is drafted.
        overlap_s: 0 when the old key is stolen: everybody enrols anew.
    """
    base = renew(held, now_s)
    kept = (
        replace(one, until_s=min(one.until_s, now_s + overlap_s))
        if one.purpose is added.purpose
        else one
        for one in base.authorities
    )
    return _checked(
        replace(base, authorities=(*(one for one in kept if one.until_s > now_s), added))
    )


def revoke_key(held: Trust, key: str, why: str, now_s: int) -> Trust:
    """Take a key out of force for good.

    Args:
        held: the document in force.
        key: its id, or the beginning of it, 8 digits at least.
        why: for people.
        now_s: since when.

    Raises:
        BadInput: no such key, several, a root, or one that is revoked.
    """
    found = [one.key_id for one in held.keys if one.key_id.startswith(key)]
    if any(one.key_id.startswith(key) for one in held.roots) and len(key) >= _SHORT_ID:
        raise BadInput(f"{key[:16]}: a root is not revoked but replaced: trust replace-root")
    if len(found) != 1 or len(key) < _SHORT_ID:
        raise BadInput(f"{key[:64]!r}: names {len(found)} keys; give 8 digits of one key's id")
    if found[0] in {one.key_id for one in held.revoked}:
        raise BadInput(f"{key[:16]}: is revoked already")
    base = renew(held, now_s)
    return _checked(replace(base, revoked=(*base.revoked, RevokedKey(found[0], now_s, why))))


def add_key(held: Trust, added: TrustedKey, now_s: int) -> Trust:
    """Name another key, beside the ones in force.

    Raises:
        BadInput: it is named already, or revoked.
    """
    if added.key_id in _known(held) or added.purpose in CA_PURPOSES:
        raise BadInput(f"{added.key_id[:16]}: is named in the document already, or no such purpose")
    base = renew(held, now_s)
    return _checked(replace(base, keys=(*base.keys, added)))


def epoch_for(held: Trust, purpose: Purpose, scope: str, asked: int | None = None) -> int:
    """Return the epoch a new key gets.

    Args:
        held: the document in force.
        purpose: of the key.
        scope: of the key.
        asked: by a person; None: the scope's current one, 1 where it has none.

    Raises:
        BadInput: one that is neither the scope's nor higher than every other: lines of versions
            would mix that nobody can tell apart.
    """
    same = {one.epoch for one in held.keys if (one.purpose, one.scope) == (purpose, scope)} or {1}
    if asked is None:
        return max(same)
    highest = max((one.epoch for one in held.keys), default=1)
    if asked in same or highest < asked <= MOST_EPOCH:
        return asked
    known = ", ".join(map(str, sorted(same)))
    raise BadInput(f"--epoch {asked}: accepted for this scope: {known}, or {highest + 1} and more")


def replace_root(held: Trust, gone: str, added: RootKey, now_s: int) -> Trust:
    """Put a new root in the place of one that was lost, or whose holder leaves.

    Raises:
        BadInput: the old one is none of the roots, or the new one is named already.
    """
    found = [one for one in held.roots if one.key_id.startswith(gone)]
    if len(found) != 1 or len(gone) < _SHORT_ID:
        raise BadInput(f"{gone[:64]!r}: names {len(found)} roots; give 8 digits of one root's id")
    if added.key_id in _known(held):
        raise BadInput(f"{added.key_id[:16]}: is named in the document already")
    base = renew(held, now_s)
    roots = tuple(added if one is found[0] else one for one in base.roots)
    return _checked(replace(base, roots=roots))


def draft(changed: Trust) -> bytes:
    """Write a document that nobody has signed yet."""
    return signatures.seal(changed.payload(), PAYLOAD_TYPE, [])


def sign(raw: bytes, key: Ed25519PrivateKey, holders: Trust | None) -> bytes:
    """Add a holder's signature.

    Args:
        raw: the draft, as far as it is signed.
        key: the holder's root key.
        holders: the document in force; a root that leaves is named only there.

    Raises:
        BadInput: the key is a root of neither document.
        Refused: the file is no trust document.
    """
    roots = {one.key_id for one in (*drafted(raw).roots, *(holders.roots if holders else ()))}
    if key_id(key.public_key()) not in roots:
        told = "" if holders else "; a root that leaves needs --held with the document in force"
        raise BadInput(f"this key is no root of the document{told}")
    return signatures.add_signatures(raw, PAYLOAD_TYPE, [key])


def drafted(raw: bytes) -> Trust:
    """Read a draft, strictly; who signed it is not asked.

    Raises:
        Refused: it is no trust document.
    """
    return parse(signatures.unverified(raw, PAYLOAD_TYPE))


def progress(raw: bytes, held: Trust | None) -> Progress:
    """Count the signatures of the roots held, and of the roots named.

    Raises:
        Refused: the file is no trust document.
    """
    said = drafted(raw)
    new = signatures.signed_by(raw, PAYLOAD_TYPE, [one.public for one in said.roots])
    if held is None:
        return Progress(0, 0, len(new), said.threshold)
    old = signatures.signed_by(raw, PAYLOAD_TYPE, [one.public for one in held.roots])
    return Progress(len(old), held.threshold, len(new), said.threshold)


def differences(held: Trust | None, said: Trust, language: Language = "en") -> Iterator[str]:
    """What a holder is asked to sign: one line for each thing that goes, comes or changes.

    What goes stands first: it is what a hurried eye misses.
    """
    goes, comes, changes, was = _WORDS[language]
    before = {_plain(name): _plain(told) for name, told in _facts(held, language)} if held else {}
    after = {_plain(name): _plain(told) for name, told in _facts(said, language)}
    for name in (name for name in before if name not in after):
        yield f"{goes}  {name}: {before[name]}"
    for name, told in after.items():
        if name not in before:
            yield f"{comes}  {name}: {told}"
        elif before[name] != told:
            yield f"{changes}  {name}: {told} ({was}: {before[name]})"


_WORDS: dict[Language, tuple[str, str, str, str]] = {
    "en": ("GOES   ", "comes  ", "changes", "before"),
    "zh": ("去除", "新增", "改变", "原为"),
}
_NAMES: dict[str, str] = {
    "document": "信任文件",
    "threshold": "签名人数",
    "root": "根密钥",
    "authority for clients": "客户端CA",
    "authority for servers": "服务器CA",
    "key for config": "配置签名密钥",
    "key for filing": "备案审批密钥",
    "key for command": "命令签名密钥",
    "key for updates": "更新密钥",
    "key for kit": "接入包签名密钥",
    "revoked key": "已作废的密钥",
}
_AUTHORITY_OF = {Purpose.CLIENTS_CA: "clients", Purpose.SERVERS_CA: "servers"}


def _plain(text: str) -> str:
    """One line, and nothing in it that steers a terminal: names are others' words."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _facts(one: Trust, language: Language) -> Iterator[tuple[str, str]]:
    zh = language == "zh"

    def name(said: str, which: str = "") -> str:
        return f"{_NAMES[said] if zh else said} {which}".rstrip()

    def span(from_s: int, until_s: int) -> str:
        return f"{day(from_s)} {'至' if zh else 'to'} {day(until_s)}"

    until = day(one.expires_s)
    yield (
        name("document"),
        f"版本 {one.version}，{until} 之前可被采用"
        if zh
        else f"version {one.version}, accepted until {until}",
    )
    roots = len(one.roots)
    yield (
        name("threshold"),
        f"{roots} 人中 {one.threshold} 人" if zh else (f"{one.threshold} of {roots}"),
    )
    for root in one.roots:
        yield name("root", root.key_id[:16]), root.holder
    for key in one.keys:
        unit = key.scope or ("全区域" if zh else "the region")
        epoch = f", {'代次' if zh else 'epoch'} {key.epoch}" if key.epoch > 1 else ""
        told = f"{key.holder}, {unit}, {span(key.from_s, key.until_s)}{epoch}"
        yield name(f"key for {key.purpose}", key.key_id[:16]), told
    for authority in one.authorities:
        certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
        # by its digest: names and serial numbers are whatever who made it wrote
        which = f"{certificate.fingerprint(SHA256()).hex()[:16]} {common_name(certificate)[:64]}"
        said = f"authority for {_AUTHORITY_OF[authority.purpose]}"
        yield name(said, which), span(authority.from_s, authority.until_s)
    for gone in one.revoked:
        yield name("revoked key", gone.key_id[:16]), f"{day(gone.since_s)}: {gone.why}"


def day(moment_s: int) -> str:
    """Write a day, UTC."""
    try:
        return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{moment_s} s"  # past the year 9999


def _began_a_line(key: TrustedKey, held: Trust) -> bool:
    others = (one for one in held.keys if one is not key)
    same = [one.epoch for one in others if (one.purpose, one.scope) == (key.purpose, key.scope)]
    return key.epoch > max(same, default=1)


def _known(held: Trust) -> set[str]:
    return {
        *(one.key_id for one in held.roots),
        *(one.key_id for one in held.keys),
        *(one.key_id for one in held.revoked),
    }


def _checked(changed: Trust) -> Trust:
    """Refuse what no reader would accept: over a cap, say."""
    return parse(changed.payload())
