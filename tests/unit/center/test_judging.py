"""Every rule of enrolment, one line each: what is known, and what is decided."""

from dataclasses import replace

import pytest

from ketang_center.enrolment.judging import (
    ALONE_MS,
    MOST_A_DAY,
    Again,
    Ask,
    Facts,
    Grant,
    RenewalFacts,
    Turn,
    judge,
    judge_renewal,
)
from ketang_center.enrolment.values import Asset, Certificate, Code, Reason, Waiting
from ketang_center.registry.values import Kind

CODE = Code(
    id="c",
    fingerprint=b"\1" * 32,
    school="s1",
    uses=2,
    used=0,
    expires_ms=100,
    made_ms=1,
    made_by="x",
)
ASSET = Asset(device="pc-1", school="s1", asset="A1", room="r", kind=Kind.OPS_PC, serial="SN1")
HELD = Certificate(serial="a", device="pc-1", key_id="k", pem="p", from_ms=1, until_ms=1000)
WAITS = Waiting(
    no=1,
    key_id="k",
    school="s1",
    code_id="c",
    serial="SN1",
    asset="",
    source="x",
    reason=Reason.ALREADY_CLAIMED,
    asked_ms=1,
)
PLAIN = Facts(
    now_ms=50,
    code=CODE,
    held=(),
    held_school="",
    matching=(ASSET,),
    doubtful=False,
    barred=frozenset(),
    waiting=None,
    chosen=None,
)
ELSEWHERE = replace(ASSET, school="s2", device="pc-9")
CLAIMED = replace(ASSET, claimed_ms=5)
USED_UP = replace(CODE, used=2)
HOLDS = {"held": (HELD,), "held_school": "s1"}
APPROVED = replace(WAITS, verdict="approved", device="pc-1")

RULES = [
    ({}, Grant(ASSET, CODE)),
    ({"code": None}, Turn(Reason.UNKNOWN_CODE)),
    ({"code": replace(CODE, withdrawn=True)}, Turn(Reason.CODE_WITHDRAWN)),
    ({"now_ms": 100}, Turn(Reason.CODE_EXPIRED)),
    ({"code": USED_UP}, Turn(Reason.CODE_USED_UP)),
    ({"matching": (ELSEWHERE,)}, Turn(Reason.OTHER_SCHOOL)),
    ({"matching": ()}, Ask(Reason.NOT_REGISTERED, CODE)),
    ({"matching": (), "doubtful": True}, Ask(Reason.DOUBTFUL_SERIAL, CODE)),
    ({"matching": (ASSET, replace(ASSET, asset="A2"))}, Ask(Reason.DOUBTFUL_SERIAL, CODE)),
    ({"matching": (ASSET, ELSEWHERE)}, Ask(Reason.DOUBTFUL_SERIAL, CODE)),
    ({"matching": (CLAIMED,)}, Ask(Reason.ALREADY_CLAIMED, CODE, "pc-1")),
    ({"barred": frozenset({"pc-1"})}, Ask(Reason.ALREADY_CLAIMED, CODE, "pc-1")),
    (HOLDS, Again(HELD)),
    (HOLDS | {"now_ms": 500, "code": replace(USED_UP, expires_ms=1)}, Again(HELD)),
    (HOLDS | {"held_school": "s2"}, Turn(Reason.KEY_IN_USE)),
    (HOLDS | {"barred": frozenset({"pc-1"})}, Turn(Reason.REVOKED)),
    (HOLDS | {"held": (replace(HELD, revoked_ms=9),)}, Turn(Reason.REVOKED)),
    (HOLDS | {"now_ms": 1000}, Turn(Reason.EXPIRED_TOO_LONG)),
    ({"waiting": replace(WAITS, verdict="refused")}, Turn(Reason.REFUSED_BY_PERSON)),
    ({"waiting": WAITS, "matching": (CLAIMED,)}, Ask(Reason.ALREADY_CLAIMED, CODE, "pc-1")),
    ({"waiting": APPROVED, "chosen": ASSET, "doubtful": True}, Grant(ASSET, CODE)),
    ({"waiting": APPROVED, "chosen": ASSET, "now_ms": 999}, Grant(ASSET, CODE)),
    ({"waiting": APPROVED, "chosen": None}, Ask(Reason.ALREADY_CLAIMED, CODE)),
    ({"waiting": APPROVED, "chosen": ASSET, "barred": frozenset({"pc-1"})}, Turn(Reason.REVOKED)),
    ({"waiting": APPROVED, "chosen": ELSEWHERE}, Turn(Reason.OTHER_SCHOOL)),
    ({"waiting": APPROVED, "chosen": CLAIMED}, Ask(Reason.ALREADY_CLAIMED, CODE, "pc-1")),
]


@pytest.mark.parametrize(("known", "decided"), RULES)
def test_a_rule(known, decided):
    assert judge(replace(PLAIN, **known), always_ask=False) == decided


def test_where_everything_is_approved_even_the_plain_case_waits():
    assert judge(PLAIN, always_ask=True) == Ask(Reason.ASKED, CODE, "pc-1")


NEXT = replace(HELD, serial="b", key_id="k2", parent="k", until_ms=5000)
RENEWAL = RenewalFacts(
    now_ms=700,
    old=HELD,
    out=False,
    held=(),
    successors=(),
    moved_on=False,
    of_late=1,
    verdict="",
)
RENEWALS = [
    ({}, None),
    ({"now_ms": 1000 + ALONE_MS}, None),
    ({"now_ms": 1001 + ALONE_MS}, Reason.EXPIRED_TOO_LONG),
    ({"now_ms": 1001 + ALONE_MS, "verdict": "approved"}, None),
    ({"now_ms": 1001 + ALONE_MS, "verdict": "refused"}, Reason.REFUSED_BY_PERSON),
    ({"out": True}, Reason.REVOKED),
    ({"out": True, "verdict": "approved"}, Reason.REVOKED),
    ({"old": replace(HELD, revoked_ms=5)}, Reason.REVOKED),
    ({"held": (NEXT,)}, Again(NEXT)),
    ({"held": (NEXT,), "now_ms": 5000}, Reason.KEY_IN_USE),
    ({"held": (replace(NEXT, revoked_ms=9),)}, Reason.KEY_IN_USE),
    ({"held": (replace(NEXT, parent="another"),)}, Reason.KEY_IN_USE),
    ({"held": (HELD,)}, Reason.KEY_IN_USE),
    ({"successors": (NEXT,)}, None),
    ({"successors": (NEXT,), "moved_on": True}, Reason.SUPERSEDED),
    ({"successors": (NEXT,), "now_ms": 1001}, Reason.SUPERSEDED),
    ({"successors": (NEXT,), "moved_on": True, "verdict": "approved"}, None),
    ({"of_late": MOST_A_DAY}, Reason.TOO_MANY),
]


@pytest.mark.parametrize(("known", "decided"), RENEWALS)
def test_a_rule_of_renewal(known, decided):
    assert judge_renewal(replace(RENEWAL, **known)) == decided
