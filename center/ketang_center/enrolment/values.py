"""What enrolment keeps and decides, as plain frozen values. All times are UTC milliseconds."""

from dataclasses import dataclass
from enum import StrEnum

from ketang_center.registry.values import Kind


class Reason(StrEnum):
    """Why a request got no certificate: a closed list, on the wire and in the security log."""

    UNKNOWN_CODE = "unknown_code"
    CODE_EXPIRED = "code_expired"
    CODE_USED_UP = "code_used_up"
    CODE_WITHDRAWN = "code_withdrawn"
    OTHER_SCHOOL = "other_school"
    ALREADY_CLAIMED = "already_claimed"
    NOT_REGISTERED = "not_registered"
    DOUBTFUL_SERIAL = "doubtful_serial"
    ASKED = "asked"
    """This centre has every enrolment approved by a person."""
    REFUSED_BY_PERSON = "refused_by_person"
    BAD_REQUEST = "bad_request"
    BAD_NONCE = "bad_nonce"
    KEY_IN_USE = "key_in_use"
    REVOKED = "revoked"
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    EXPIRED_TOO_LONG = "expired_too_long"
    SUPERSEDED = "superseded"
    """The key has a successor that has moved on: a copy of an old disk, or a restored one."""
    UNAVAILABLE = "unavailable"
    """The centre's own fault: its authority has ended, or its disk is busy."""
    TOO_MANY = "too_many"
    LOCKED = "locked"
    QUEUE_FULL = "queue_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A pre-registered device. ``serial`` is normalised; empty where nobody knows it."""

    device: str
    """The id it will carry, made when it was registered; after a re-enrolment the current one."""
    school: str
    asset: str
    """The school's own inventory number."""
    room: str
    kind: Kind
    serial: str = ""
    claimed_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An enrolment code, known only by its HMAC. ``id`` is its short public name for lists."""

    id: str
    fingerprint: bytes
    school: str
    uses: int
    used: int
    expires_ms: int
    made_ms: int
    made_by: str
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client certificate that was given out. ``serial`` is its number in lower-case hex."""

    serial: str
    device: str
    key_id: str
    """SHA-256 of the SubjectPublicKeyInfo (DER), hex."""
    pem: str
    from_ms: int
    until_ms: int
    revoked_ms: int | None = None
    parent: str = ""
    """Name of the key that asked for it, where it renews another; empty for a first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that waits for a person. ``no`` names it in the console."""

    no: int
    key_id: str
    school: str
    code_id: str
    serial: str
    asset: str
    """What the device said of itself, untrusted."""
    source: str
    reason: Reason
    asked_ms: int
    device: str = ""
    """The asset it would become, where one matches."""
    verdict: str = ""
    """Empty while it waits; ``approved`` or ``refused``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A device that was thrown out, for ever."""

    device: str
    at_ms: int
    why: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A filing or camera grant that was taken back, for ever.

    ``key`` is the digest of its signed document; of a filing that nobody had signed yet, its number
    and when it was submitted.
    """

    key: str
    at_ms: int
    why: str
    by: str
