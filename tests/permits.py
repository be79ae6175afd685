"""A region's keys for filings and grants, and documents signed with them, in memory."""

from dataclasses import replace

from ketang_contract import signatures
from ketang_contract.config import Level
from ketang_contract.layers import Step
from ketang_contract.permits import (
    DAY_S,
    FILING_TYPE,
    GRANT_TYPE,
    CameraGrant,
    CameraPurpose,
    DataUsed,
    Filing,
    Subject,
    payload,
)
from ketang_contract.trust import Purpose, RevokedKey, RootKey, Trust, TrustedKey
from ketang_provisioning.keys import key_id, make_ed25519, public_pem

NOW_S = 1_800_000_000
DEVICE, ROOM, SCHOOL, OTHER = "s1-ifp-1", "s1-r1", "s1", "s2"
PATH = tuple(
    Step(level=level, unit=unit)
    for level, unit in zip(Level, ("lan", "lan-shi", "lan-xian", SCHOOL, ROOM), strict=False)
)
SHA = "ab" * 32
KEYS = {
    # name of the key: purpose, scope, holder
    "approver": (Purpose.FILING, "", "He"),
    "county-approver": (Purpose.FILING, "lan-xian", "Ma"),
    "other-approver": (Purpose.FILING, "lan-qu", "Bai"),
    "school": (Purpose.CONFIG, SCHOOL, "Li"),
    "other-school": (Purpose.CONFIG, OTHER, "Zhou"),
    "region": (Purpose.CONFIG, "", "Wang"),
    "both": (Purpose.CONFIG, SCHOOL, "Sun"),
    "both-approver": (Purpose.FILING, "", "Sun"),
    "command": (Purpose.COMMAND, "", "He"),
}
PRIVATE = {name: make_ed25519() for name in (*KEYS, "stranger", "root")}


def trusted(name, **changes) -> TrustedKey:
    public = PRIVATE[name].public_key()
    purpose, scope, holder = KEYS[name]
    key = TrustedKey(
        key_id=key_id(public),
        public=public_pem(public),
        purpose=purpose,
        scope=scope,
        holder=holder,
        from_s=NOW_S - 1000 * DAY_S,
        until_s=NOW_S + 2000 * DAY_S,
    )
    return replace(key, **changes)


def trust(*names, revoked=(), issued_s=NOW_S - 500 * DAY_S) -> Trust:
    """The document in force: all keys, or these."""
    root = PRIVATE["root"].public_key()
    return Trust(
        version=1,
        issued_s=issued_s,
        expires_s=NOW_S + 3000 * DAY_S,
        threshold=1,
        roots=(RootKey(key_id(root), public_pem(root), "root"),),
        keys=tuple(trusted(one) for one in names or KEYS),
        revoked=tuple(RevokedKey(trusted(one).key_id, NOW_S, "lost") for one in revoked),
    )


def filing(**changes) -> Filing:
    said = {
        "subject": Subject.MODEL,
        "name": "mtcnn",
        "version": "1.0.0",
        "sha256": SHA,
        "number": "岚教备〔2026〕12号",
        "purpose": "统计教室人数",
        "data": (DataUsed.CAMERA_PICTURES, DataUsed.HEAD_COUNTS),
        "approver": "He",
        "scope": "lan",
        "issued_s": NOW_S - DAY_S,
        "expires_s": NOW_S + 100 * DAY_S,
    }
    return Filing(**{**said, **changes})


def grant(**changes) -> CameraGrant:
    said = {
        "target": SCHOOL,
        "school": SCHOOL,
        "purpose": CameraPurpose.OCCUPANCY,
        "holder": "Li",
        "approver": "He",
        "issued_s": NOW_S - DAY_S,
        "from_s": NOW_S - DAY_S,
        "until_s": NOW_S + 60 * DAY_S,
    }
    return CameraGrant(**{**said, **changes})


def sealed(document, *keys) -> bytes:
    """Sign a document with keys by name: those it needs, unless told."""
    if isinstance(document, Filing):
        chosen, kind = keys or ("approver",), FILING_TYPE
    else:
        chosen, kind = keys or ("school", "approver"), GRANT_TYPE
    return signatures.seal(payload(document), kind, [PRIVATE[one] for one in chosen])
