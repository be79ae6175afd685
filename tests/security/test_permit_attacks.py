"""Attacks on filings and camera grants: of some hundreds of forgeries a device believes none."""

import itertools
import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from ketang_agent.remote.permits import PermitBook
from ketang_agent.remote.permits_judging import judge_permits
from ketang_contract import signatures, strict_json
from ketang_contract.errors import Refused
from ketang_contract.layers import Step
from ketang_contract.permits import (
    DAY_S,
    FILING_TYPE,
    GRANT_TYPE,
    Filing,
    No,
    Yes,
    payload,
    type_of,
)
from ketang_provisioning.permits import TOOLS
from tests.permits import (
    DEVICE,
    KEYS,
    NOW_S,
    OTHER,
    PATH,
    PRIVATE,
    ROOM,
    SCHOOL,
    SHA,
    filing,
    grant,
    sealed,
    trust,
)

MODEL = ("mtcnn", "1.0.0", SHA)
FILINGS = tuple(filing(scope=one.unit) for one in PATH)
GRANTS = tuple(grant(target=one) for one in (SCHOOL, ROOM, DEVICE))


def believed(*envelopes, by=None, now_s=NOW_S, until_s=None):
    return judge_permits(
        envelopes, by or trust(), DEVICE, PATH, now_s, TOOLS, believed_until_s=until_s
    )


def refused_all(cases, **more) -> Counter:
    """Judge each case by itself; none may be believed. Returns the reasons."""
    reasons: Counter = Counter()
    for raw in cases:
        found = believed(raw, **more)
        assert found.permits == ()
        reasons[found.dropped[0].reason] += 1
    return reasons


def test_what_is_right_is_believed():
    """Else every attack would be refused for a wrong reason."""
    right = [sealed(one) for one in (*FILINGS, *GRANTS)]
    found = believed(*right)
    assert found.dropped == ()
    assert len(found.permits) == len(right)
    county = filing(scope="lan-xian", approver="Ma")
    assert believed(sealed(county, "county-approver")).permits


def test_forged_documents_are_not_believed():
    cases = [
        sealed(document, *keys)
        for document in (*FILINGS, *GRANTS)
        for keys in (("stranger",), ("stranger", "root"), ("command",), ("root",))
    ]
    assert set(refused_all(cases)) == {"forged"}
    unsigned = [signatures.seal(payload(one), type_of(one), []) for one in (*FILINGS, *GRANTS)]
    assert set(refused_all(unsigned)) == {"forged"}


def test_a_signed_document_of_which_anything_was_changed_is_not_believed():
    chance, cases = random.Random(5), []
    changes = (
        {"expires_s": NOW_S + 900 * DAY_S},
        {"scope": "lan-xian"},
        {"number": "99"},
        {"approver": "Ma"},
        {"sha256": "cd" * 32},
        {"version": "2.0.0"},
    )
    for change in changes:
        said = json.loads(sealed(filing()))
        other = payload(replace(filing(), **change))
        cases.append(_with_payload(said, other))
    for change in ({"until_s": NOW_S + 300 * DAY_S}, {"target": ROOM}, {"holder": "Sun"}):
        said = json.loads(sealed(grant()))
        cases.append(_with_payload(said, payload(replace(grant(), **change))))
    for document in (filing(), grant()):
        raw = sealed(document)
        for _ in range(60):
            said = json.loads(raw)
            one = chance.choice(said["signatures"])
            at = chance.randrange(len(one["sig"]) - 3)
            letter = chance.choice("ABCDEFGH".replace(one["sig"][at], ""))
            one["sig"] = one["sig"][:at] + letter + one["sig"][at + 1 :]
            cases.append(strict_json.canonical(said))
    assert sum(refused_all(cases).values()) == len(cases) == 129


def _with_payload(said, body) -> bytes:
    made = json.loads(signatures.seal(body, said["payloadType"], []))
    return strict_json.canonical({**made, "signatures": said["signatures"]})


def test_bytes_that_are_no_envelope_end_nothing():
    chance, raw = random.Random(6), sealed(filing())
    cases = [b"", b"[]", b"null", b'{"payloadType":7}', b"\xff" * 40, b"[" * 5000]
    cases += [raw[: chance.randrange(len(raw))] for _ in range(60)]
    cases += [sealed(filing()).replace(FILING_TYPE.encode(), GRANT_TYPE.encode())]
    cases += [sealed(grant()).replace(GRANT_TYPE.encode(), FILING_TYPE.encode())]
    cases += [raw.replace(b'"payloadType"', b'"payloadType":"x","payloadType"', 1)]
    assert sum(refused_all(cases).values()) == len(cases)


def test_a_key_over_another_unit_signs_nothing_here():
    """Nor one whose unit lies below the one spoken of."""
    cases = [sealed(replace(one, approver="Bai"), "other-approver") for one in FILINGS]
    above = [one for one in FILINGS if one.scope in {"lan", "lan-shi"}]
    cases += [sealed(replace(one, approver="Ma"), "county-approver") for one in above]
    cases += [sealed(replace(one, approver="Bai"), "school", "other-approver") for one in GRANTS]
    cases += [sealed(replace(one, holder="Zhou"), "other-school", "approver") for one in GRANTS]
    assert set(refused_all(cases)) == {"mis_scoped"}


def test_a_key_for_something_else_files_and_grants_nothing():
    approvers = {name for name, one in KEYS.items() if one[0] == "filing"}
    cases = [
        sealed(replace(one, approver=KEYS[name][2]), name)
        for one in FILINGS
        for name in KEYS.keys() - approvers
    ]
    cases += [
        sealed(replace(one, holder=KEYS[name][2]), name, "approver")
        for one in GRANTS
        for name in KEYS.keys() - {"school", "both"}
        if KEYS[name][2] != one.approver
    ]
    assert set(refused_all(cases)) <= {"forged", "mis_scoped"}


def test_the_region_does_not_open_the_cameras_of_a_school_that_has_a_key():
    cases = [sealed(replace(one, holder="Wang"), "region", "approver") for one in GRANTS]
    assert set(refused_all(cases)) == {"mis_scoped"}
    lost = trust(revoked=("school", "both"))
    assert set(refused_all(cases, by=lost)) == {"mis_scoped"}, "nor when that key was lost"


def test_one_part_of_a_grant_is_none():
    cases = [
        sealed(one, *keys)
        for one in GRANTS
        for keys in (("school",), ("approver",), ("school", "command"), ("stranger", "approver"))
    ]
    assert set(refused_all(cases)) == {"forged"}


def test_one_holder_signs_no_two_parts():
    for name in ("Sun", " sun", "SUN", "\uff33\uff35\uff2e"):
        with pytest.raises(ValueError, match="two people"):
            grant(holder="Sun", approver=name)
    cases = [
        _unchecked(one, holder="Sun", approver="Sun", keys=("both", "both-approver"))
        for one in GRANTS
    ]
    assert set(refused_all(cases)) == {"bad_document"}
    borrowed = [
        # signs both parts and names somebody else for one of them
        *(
            sealed(replace(one, holder="Li", approver="Sun"), "both", "both-approver")
            for one in GRANTS
        ),
        *(
            sealed(replace(one, holder="Sun", approver="He"), "both", "both-approver")
            for one in GRANTS
        ),
    ]
    assert set(refused_all(borrowed)) == {"wrong_signer"}


def _unchecked(document, *, keys, **changes) -> bytes:
    """Sign what no tool of ours would write."""
    said = {**json.loads(payload(document)), **changes}
    body = strict_json.canonical(said)
    return signatures.seal(body, type_of(document), [PRIVATE[one] for one in keys])


def test_a_document_in_another_s_name_is_not_believed():
    cases = [
        sealed(replace(one, approver=name)) for one in FILINGS for name in ("Ma", "Bai", "nobody")
    ]
    assert set(refused_all(cases)) == {"wrong_signer"}


def test_what_is_another_school_s_or_wider_than_a_school_is_not_for_here():
    far = [filing(scope=one) for one in ("lan-qu", OTHER, "s2-r1", "nowhere", DEVICE)]
    cases = [sealed(one) for one in far]
    targets = (OTHER, "s2-r1", "s2-ifp-1", "lan", "lan-xian", "nowhere")
    cases += [sealed(grant(target=one)) for one in targets]
    cases += [sealed(grant(target=one, school=OTHER)) for one in (*targets, SCHOOL, ROOM, DEVICE)]
    cases += [sealed(grant(school="lan-xian", target=one)) for one in ("lan-xian", SCHOOL)]
    assert set(refused_all(cases)) == {"wrong_target"}


def test_a_grant_opens_no_camera_above_a_school():
    path = tuple(one for one in PATH if one.level in {"region", "city", "county"})
    for target in ("lan", "lan-xian", SCHOOL, DEVICE, ""):
        raw = _unchecked(grant(), target=target, school="", keys=("school", "approver"))
        assert judge_permits([raw], trust(), DEVICE, path, NOW_S, TOOLS).permits == ()
        raw = _unchecked(grant(), target=target, keys=("school", "approver"))
        assert judge_permits([raw], trust(), DEVICE, path, NOW_S, TOOLS).permits == ()


def test_what_a_field_too_many_or_too_long_a_life_says_is_nothing():
    long_life = {"expires_s": NOW_S + 2000 * DAY_S}
    cases = [_unchecked(filing(), **one, keys=("approver",)) for one in (long_life, {"more": 1})]
    changes = ({"until_s": NOW_S + 2000 * DAY_S}, {"also": "x"}, {"purpose": "identity"})
    cases += [_unchecked(grant(), **one, keys=("school", "approver")) for one in changes]
    assert set(refused_all(cases)) == {"bad_document"}


def test_expired_ones_are_not_believed_whatever_the_clock_says():
    ended = [
        *(
            replace(one, issued_s=NOW_S - 50 * DAY_S, expires_s=NOW_S - at)
            for at in (0, 1, DAY_S)
            for one in FILINGS
        ),
        *(
            replace(one, from_s=NOW_S - 50 * DAY_S, issued_s=NOW_S - 50 * DAY_S, until_s=NOW_S - at)
            for at in (0, 1, DAY_S)
            for one in GRANTS
        ),
    ]
    cases = [sealed(one) for one in ended]
    assert set(refused_all(cases)) == {"expired"}
    # The trust document was signed today: a clock before that is a slow one.
    today = trust(issued_s=NOW_S)
    assert set(refused_all(cases, by=today, now_s=NOW_S - 400 * DAY_S)) == {"expired"}


def test_an_ended_one_stays_ended_on_a_device_whose_clock_is_set_back(tmp_path):
    chance, count = random.Random(7), 0
    found = believed(sealed(filing()), sealed(grant()))
    for at in range(60):
        file = tmp_path / f"{at}.json"
        book = PermitBook(file)
        book.tick(NOW_S, 0)
        book.replace(found.permits)
        book.tick(filing().expires_s + chance.randrange(DAY_S), 10, synced=chance.random() < 0.5)
        for _ in range(4):
            if chance.random() < 0.5:
                book = PermitBook(file)
            again = believed(sealed(filing()), sealed(grant()), now_s=NOW_S)
            book.replace(again.permits if chance.random() < 0.5 else found.permits)
            book.tick(NOW_S - chance.randrange(300 * DAY_S), 20, synced=chance.random() < 0.5)
            count += isinstance(book.model(*MODEL), Yes) + isinstance(book.camera(), Yes)
    assert count == 0


def test_an_older_longer_one_is_not_replayed_once_its_key_is_revoked(tmp_path):
    longer = sealed(filing(issued_s=NOW_S - 9 * DAY_S, expires_s=NOW_S + 1000 * DAY_S))
    old_grant = sealed(grant(issued_s=NOW_S - 9 * DAY_S, until_s=NOW_S + 300 * DAY_S))
    for gone in ("approver", "school"):
        by = trust(revoked=(gone,))
        cases = [old_grant] if gone == "school" else [old_grant, longer]
        assert set(refused_all(cases, by=by)) == {"forged"} or gone == "school"
        for back_s in range(0, 400 * DAY_S, 20 * DAY_S):
            assert believed(*cases, by=by, now_s=NOW_S - back_s).permits == ()
    # The device that held them holds what is judged anew by the later trust document.
    book = PermitBook(tmp_path / "permits.json")
    book.tick(NOW_S, 0)
    book.replace(believed(longer, old_grant).permits)
    assert isinstance(book.model(*MODEL), Yes)
    book.replace(believed(longer, old_grant, by=trust(revoked=("approver",))).permits)
    assert book.model(*MODEL) == No("filing_expired")
    assert book.camera() == No("grant_expired")


def test_an_older_longer_one_is_not_replayed_after_a_shorter_one_took_its_place(tmp_path):
    older, later = filing(), filing(issued_s=NOW_S, expires_s=NOW_S)
    opened, closed = grant(), grant(issued_s=NOW_S, from_s=NOW_S, until_s=NOW_S)
    book = PermitBook(tmp_path / "permits.json")
    book.tick(NOW_S, 0)
    book.replace(believed(*map(sealed, (older, later, opened, closed))).permits)
    for replayed in itertools.permutations((older, opened)):
        book.replace(believed(*map(sealed, replayed)).permits)
        for at in range(40):
            book.tick(NOW_S - at * DAY_S, at, synced=at % 2 == 0)
            assert isinstance(book.model(*MODEL), No)
            assert isinstance(book.camera(), No)


def test_many_mixed_forgeries_at_random():
    """Three hundred of every kind at once: one change from what would be right."""
    chance, made = random.Random(8), 0
    right = {type_of(one): one for one in (filing(), grant())}
    while made < 300:
        document = right[chance.choice(list(right))]
        is_filing = isinstance(document, Filing)
        keys = list(("approver",) if is_filing else ("school", "approver"))
        wrong = chance.randrange(4)
        if wrong == 0:
            keys[chance.randrange(len(keys))] = chance.choice(("stranger", "root", "command"))
        elif wrong == 1:
            place = {"scope": OTHER} if is_filing else {"target": chance.choice((OTHER, "lan"))}
            document = replace(document, **place)
        elif wrong == 2:
            document = replace(document, approver=chance.choice(("Ma", "Bai", "Wang", "x")))
        else:
            ago = chance.randrange(1, 300) * DAY_S
            ends = {"expires_s": NOW_S} if is_filing else {"until_s": NOW_S, "from_s": NOW_S - ago}
            document = replace(document, issued_s=NOW_S - ago, **ends)
        found = believed(sealed(document, *keys))
        assert found.permits == (), (wrong, document, keys)
        made += 1


def test_no_path_makes_a_device_believe_what_it_was_not_placed_under():
    short = (Step(level="region", unit="lan"),)
    raw = [sealed(one) for one in GRANTS]
    assert judge_permits(raw, trust(), DEVICE, short, NOW_S, TOOLS).permits == ()
    with pytest.raises(Refused):
        TOOLS.payload(b"{}", FILING_TYPE)
