"""The trust document: which roots, keys and certificate authorities a region's devices believe.

A signed list (DSSE, ``PAYLOAD_TYPE``), held by every device and by the centre. The rules:

1. A first document is accepted when its set of roots has the fingerprint that came with the
   installer, and its threshold of those roots signed it.
2. A later one is accepted when its version is higher, and both the threshold of the roots held and
   the threshold of the roots it names signed it. So roots are replaced by a document that both
   sets sign; who missed it is led through it by ``accept_chain``.
3. ``expires_s`` gates acceptance, never operation: a device goes on with what it accepted. Keys and
   authorities end each at its own ``until_s``.
4. A revoked key is out at once, whatever the clock says; ``since_s`` is for people.

The values need the standard library only. Signatures are checked by ``signatures``, which is
imported when something is judged: a device does that in its verifier, and reads what was judged
before (``read_accepted``) without it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias

from ketang_contract import strict_json
from ketang_contract.errors import Refused

PAYLOAD_TYPE = "application/vnd.ketang.trust+json"
MAX_DOCUMENT_BYTES = 64 << 10
MAX_ROOTS = 9
MAX_KEYS = 96
MAX_AUTHORITIES = 8
MAX_REVOKED = 200
_ED25519_DER = bytes.fromhex("302a300506032b6570032100")
"""How the SubjectPublicKeyInfo of every Ed25519 key begins (RFC 8410, 4)."""
_ED25519_DER_BYTES = 44

Opener: TypeAlias = Callable[[bytes, str, Sequence[str], int], bytes]
"""``signatures.open_sealed``: envelope, payload type, public keys (PEM), threshold."""


class Purpose(StrEnum):
    """What a key or an authority may be used for; nothing else."""

    CLIENTS_CA = "clients_ca"
    SERVERS_CA = "servers_ca"
    CONFIG = "config"
    FILING = "filing"
    COMMAND = "command"
    UPDATES = "updates"
    KIT = "kit"


CA_PURPOSES = (Purpose.CLIENTS_CA, Purpose.SERVERS_CA)


class TrustRefused(Refused):
    """The document is not accepted; what is held stays in force.

    ``reason`` is ``wrong_root`` (not the roots of the installer), ``not_enough_signatures``,
    ``rolled_back`` (no newer than what is held), ``expired`` or ``bad_document``.
    """


@dataclass(frozen=True, slots=True)
class RootKey:
    """One of the roots: an Ed25519 public key and who keeps its other half."""

    key_id: str
    public: str
    holder: str


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key (PEM) with authority for one purpose over one unit; ``""`` is the region.

    ``epoch`` begins a new line of versions for what is signed under this scope: raised when a key
    was burnt that may have signed version numbers nobody can follow.
    """

    key_id: str
    public: str
    purpose: Purpose
    scope: str
    holder: str
    from_s: int
    until_s: int
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A certificate (PEM) that others are checked against, for clients or for servers."""

    purpose: Purpose
    certificate: str
    from_s: int
    until_s: int


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key that nobody may believe any more."""

    key_id: str
    since_s: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a document says. Times are whole seconds since 1970, UTC."""

    version: int
    issued_s: int
    expires_s: int
    threshold: int
    roots: tuple[RootKey, ...]
    keys: tuple[TrustedKey, ...] = ()
    authorities: tuple[CertificateAuthority, ...] = ()
    revoked: tuple[RevokedKey, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of this document's set of roots."""
        return fingerprint(self.threshold, (one.key_id for one in self.roots))

    def certificates_pem(self, purpose: Purpose, now_s: int) -> str:
        """PEM of the authorities in force, one after the other; empty if there is none."""
        return "".join(
            one.certificate
            for one in self.authorities
            if one.purpose is purpose and one.from_s <= self._moment(now_s) < one.until_s
        )

    def keys_for(
        self, purpose: Purpose, now_s: int, scope: str | None = None
    ) -> tuple[TrustedKey, ...]:
        """Keys in force for a purpose: in time and not revoked.

        Args:
            purpose: what is to be checked with them.
            now_s: the reader's clock. One that stands before ``issued_s`` is slow, and the time of
                issue is taken instead.
            scope: only keys over exactly this unit; ``None``: over any.
        """
        gone = {one.key_id for one in self.revoked}
        return tuple(
            one
            for one in self.keys
            if one.purpose is purpose
            and one.key_id not in gone
            and one.from_s <= self._moment(now_s) < one.until_s
            and scope in {None, one.scope}
        )

    def epoch_of(self, purpose: Purpose, scopes: Iterable[str]) -> int:
        """Return the epoch of what is signed for one target: the highest of any key over it.

        Args:
            purpose: of the keys.
            scopes: the target and every unit above it, and ``""``.

        Returns:
            1 where no key was named. Revoked keys count too: what they began is not taken back.
        """
        over = {"", *scopes}
        named = (one for one in self.keys if one.purpose is purpose and one.scope in over)
        return max((one.epoch for one in named), default=1)

    def payload(self) -> bytes:
        """Write the document as what gets signed: canonical JSON."""
        return strict_json.canonical(
            {
                "version": self.version,
                "issued_s": self.issued_s,
                "expires_s": self.expires_s,
                "threshold": self.threshold,
                "roots": [_as_object(one) for one in self.roots],
                "keys": [_as_object(one) for one in self.keys],
                "authorities": [_as_object(one) for one in self.authorities],
                "revoked": [_as_object(one) for one in self.revoked],
            }
        )

    def _moment(self, now_s: int) -> int:
        return max(now_s, self.issued_s)


def fingerprint(threshold: int, root_key_ids: Iterable[str]) -> str:
    """SHA-256 hex over the canonical JSON of threshold and sorted root key ids."""
    said = {"threshold": threshold, "roots": sorted(root_key_ids)}
    return hashlib.sha256(strict_json.canonical(said)).hexdigest()


def accept(
    raw: bytes,
    *,
    fingerprint: str,
    now_s: int,
    held: Trust | None = None,
    opener: Opener | None = None,
) -> Trust:
    """Judge a document by rules 1 to 3.

    The document that is held already is accepted again, and changes nothing.

    Args:
        raw: the envelope.
        fingerprint: of the first set of roots; asked only while nothing is held.
        now_s: max(clock, signed-time floor).
        held: what was accepted last.
        opener: checks the signatures; ``signatures.open_sealed`` unless told.

    Raises:
        TrustRefused: with one of its reasons.
    """
    return accept_chain([raw], fingerprint=fingerprint, now_s=now_s, held=held, opener=opener)


def accept_chain(
    raws: Sequence[bytes],
    *,
    fingerprint: str,
    now_s: int,
    held: Trust | None = None,
    opener: Opener | None = None,
) -> Trust:
    """Judge documents one after the other, oldest first; only the last one's expiry counts.

    For a device that slept through a change of roots, or was installed before it.

    Raises:
        TrustRefused: of the first that is not accepted.
    """
    if not raws:
        raise TrustRefused("bad_document", "there is none")
    check = _opener() if opener is None else opener
    judged = held
    for raw in raws:
        judged = _judge(raw, fingerprint, judged, check)
    if judged is None or (judged != held and now_s >= judged.expires_s):
        raise TrustRefused("expired", "a newer one has to be signed")
    return judged


def read_accepted(raw: bytes) -> Trust:
    """Read a document that was accepted before, from the place where only we write.

    Nothing is judged: that was done when it was accepted, and it may have expired since (rule 3).

    Raises:
        TrustRefused: ``bad_document``.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise TrustRefused("bad_document", f"larger than {MAX_DOCUMENT_BYTES} bytes")
    fields = ("payload", "payloadType", "signatures")
    try:
        said = strict_json.whole(strict_json.load(raw), fields, "envelope")
        if said["payloadType"] != PAYLOAD_TYPE:
            raise TrustRefused("bad_document", f"not of the type {PAYLOAD_TYPE}")
        payload = strict_json.base64_bytes(said["payload"], MAX_DOCUMENT_BYTES, "payload")
    except ValueError as problem:
        raise TrustRefused("bad_document", str(problem)) from problem
    return parse(payload)


def parse(payload: bytes) -> Trust:
    """Read a document's payload, strictly. Who signed it is not asked here.

    Raises:
        TrustRefused: ``bad_document``: an unknown or missing field, a wrong type, a cap, a key
            whose name is not its hash, two of one name.
    """
    try:
        return _document(strict_json.whole(strict_json.load(payload), _FIELDS, "document"))
    except ValueError as problem:
        raise TrustRefused("bad_document", str(problem)) from problem


_FIELDS = tuple(one.name for one in fields(Trust))


def _opener() -> Opener:
    from ketang_contract.signatures import open_sealed  # noqa: PLC0415  (loads cryptography)

    return open_sealed


def _judge(raw: bytes, first_roots: str, held: Trust | None, opener: Opener) -> Trust:
    said = read_accepted(raw)  # to learn which roots it names; believed only when they have signed
    if held is None:
        if said.fingerprint != first_roots:
            raise TrustRefused("wrong_root", "not the roots that came with the installer")
    else:
        if said == held:
            return held
        if said.version <= held.version:
            raise TrustRefused("rolled_back", f"version {said.version}, held: {held.version}")
        _check_signed(raw, held, opener)
    _check_signed(raw, said, opener)
    return said


def _check_signed(raw: bytes, by: Trust, opener: Opener) -> None:
    try:
        opener(raw, PAYLOAD_TYPE, [one.public for one in by.roots], by.threshold)
    except Refused as problem:
        reason = "not_enough_signatures" if problem.reason == "bad_signature" else "bad_document"
        raise TrustRefused(reason, f"by the roots of version {by.version}") from problem


def _document(said: dict[str, Any]) -> Trust:
    made = Trust(
        version=strict_json.number(said["version"], "version", 1),
        issued_s=strict_json.number(said["issued_s"], "issued_s"),
        expires_s=strict_json.number(said["expires_s"], "expires_s"),
        threshold=strict_json.number(said["threshold"], "threshold", 1),
        roots=tuple(map(_root, strict_json.listed(said["roots"], MAX_ROOTS, "roots"))),
        keys=tuple(map(_key, strict_json.listed(said["keys"], MAX_KEYS, "keys"))),
        authorities=tuple(
            map(_authority, strict_json.listed(said["authorities"], MAX_AUTHORITIES, "authorities"))
        ),
        revoked=tuple(map(_revoked, strict_json.listed(said["revoked"], MAX_REVOKED, "revoked"))),
    )
    if made.threshold > len(made.roots):
        raise ValueError("a threshold above the number of roots")
    for names in (made.roots, made.keys, made.revoked):
        if len({one.key_id for one in names}) != len(names):
            raise ValueError("one key is named twice")
    return made


def _root(said: Any) -> RootKey:
    found = strict_json.whole(said, ("key_id", "public", "holder"), "root")
    key_id, public, der = _public(found)
    if len(der) != _ED25519_DER_BYTES or not der.startswith(_ED25519_DER):
        raise ValueError("a root is not an Ed25519 key")
    return RootKey(key_id, public, strict_json.text(found["holder"], "holder"))


def _key(said: Any) -> TrustedKey:
    fields = ("key_id", "public", "purpose", "scope", "holder", "from_s", "until_s", "epoch")
    found = strict_json.whole(said, fields, "key")
    key_id, public, _ = _public(found)
    return TrustedKey(
        key_id=key_id,
        public=public,
        purpose=_purpose(found["purpose"], authority=False),
        scope=strict_json.text(found["scope"], "scope", least=0),
        holder=strict_json.text(found["holder"], "holder"),
        from_s=strict_json.number(found["from_s"], "from_s"),
        until_s=strict_json.number(found["until_s"], "until_s"),
        epoch=strict_json.number(found["epoch"], "epoch", 1),
    )


def _authority(said: Any) -> CertificateAuthority:
    found = strict_json.whole(said, ("purpose", "certificate", "from_s", "until_s"), "authority")
    return CertificateAuthority(
        purpose=_purpose(found["purpose"], authority=True),
        certificate=strict_json.pem(found["certificate"], "CERTIFICATE")[0],
        from_s=strict_json.number(found["from_s"], "from_s"),
        until_s=strict_json.number(found["until_s"], "until_s"),
    )


def _revoked(said: Any) -> RevokedKey:
    found = strict_json.whole(said, ("key_id", "since_s", "why"), "revoked key")
    return RevokedKey(
        strict_json.text(found["key_id"], "key_id"),
        strict_json.number(found["since_s"], "since_s"),
        strict_json.text(found["why"], "why", least=0),
    )


def _public(found: dict[str, Any]) -> tuple[str, str, bytes]:
    """Take a key and its name, which must be its hash."""
    public, der = strict_json.pem(found["public"], "PUBLIC KEY")
    if hashlib.sha256(der).hexdigest() != found["key_id"]:
        raise ValueError("a key's name is not its hash")
    return found["key_id"], public, der


def _purpose(said: Any, *, authority: bool) -> Purpose:
    found = Purpose(strict_json.text(said, "purpose"))
    if (found in CA_PURPOSES) is not authority:
        raise ValueError("a key among the authorities, or an authority among the keys")
    return found


def _as_object(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}
