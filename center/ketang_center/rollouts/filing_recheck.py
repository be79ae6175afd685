"""What stands open here and must not: closed.

What the trust document in force bears no longer, for a key that was revoked, or has ended: devices
believe nothing it signed any more, and a rollout must not count on it. And what was withdrawn once
and is open again, since the register was put back from a backup.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Withdrawal
from ketang_center.registry.database import Registry
from ketang_center.registry.tree import Tree
from ketang_center.rollouts.filing_desk import closed, key_of, place_for, subject_of, trust_in
from ketang_center.rollouts.filing_values import FilingState
from ketang_center.rollouts.filings import Filings
from ketang_contract.errors import Refused
from ketang_contract.permit_judging import judge
from ketang_contract.trust import Trust
from ketang_provisioning.permits import TOOLS

CENTER = "center"
"""How the audit log names what nobody asked for."""
_ENDED_ANYWAY = frozenset({"expired", "wrong_target"})
_OPEN = (FilingState.SUBMITTED, FilingState.REVIEWED, FilingState.APPROVED)


def close_withdrawn_in(folder: Path, clock_ms: Callable[[], int]) -> int:
    """Do ``close_withdrawn`` on the files of a centre's folder, on connections of its own."""
    with Book(folder / "enrolment.db") as book:
        withdrawn = book.withdrawals()
    if not withdrawn or not (folder / "filings.db").exists():
        return 0
    with (
        Filings(folder / "filings.db", clock_ms) as filings,
        closing(Audit(folder / "audit.db")) as audit,
    ):
        return close_withdrawn(filings, audit, withdrawn, clock_ms())


def close_withdrawn(
    filings: Filings, audit: Audit, withdrawn: Mapping[str, Withdrawal], now_ms: int
) -> int:
    """Close what was taken back and is open again; return how much it was."""
    rows, count = filings.rows, 0
    with rows.transaction():
        for one in filings.in_state(*_OPEN):
            if found := withdrawn.get(key_of(one)):
                audit.note(now_ms, CENTER, "filing_withdrawn", subject_of(one), one.scope)
                state = FilingState.WITHDRAWN
                rows.put(closed(one, state, found.by, found.at_ms, found.why))
                count += 1
        for grant in filings.all_grants():
            if not grant.withdrawn_ms and (found := withdrawn.get(grant.digest)):
                what = f"{grant.target} {grant.digest[:12]}"
                audit.note(now_ms, CENTER, "grant_withdrawn", what, grant.school)
                rows.put(replace(grant, withdrawn_by=found.by, withdrawn_ms=found.at_ms))
                count += 1
        if count:
            rows.count_change()
    return count


def recheck_in(folder: Path, trust_file: Path, clock_ms: Callable[[], int]) -> int:
    """Do ``close_withdrawn`` and ``recheck`` on the files of a centre's folder.

    Raises:
        FilingRefused: ``no_trust``: the trust document cannot be read; what was withdrawn is
            closed all the same.
    """
    again = close_withdrawn_in(folder, clock_ms)
    trust = trust_in(trust_file)
    with (
        Filings(folder / "filings.db", clock_ms) as filings,
        Registry(folder / "registry.db") as registry,
        closing(Audit(folder / "audit.db")) as audit,
    ):
        return again + recheck(filings, registry.tree(), audit, trust, clock_ms())


def recheck(filings: Filings, tree: Tree, audit: Audit, trust: Trust, now_ms: int) -> int:
    """Close what a device would not believe any more; return how much it was."""
    rows, count = filings.rows, 0
    with rows.transaction():
        for one in filings.in_state(FilingState.APPROVED):
            if why := _no_more(one.envelope, tree, one.scope, "", trust, now_ms):
                audit.note(now_ms, CENTER, "filing_withdrawn", subject_of(one), one.scope)
                rows.put(closed(one, FilingState.WITHDRAWN, CENTER, now_ms, why))
                count += 1
        for grant in filings.all_grants():
            if grant.withdrawn_ms:
                continue
            if _no_more(grant.envelope, tree, grant.school, grant.target, trust, now_ms):
                what = f"{grant.target} {grant.digest[:12]}"
                audit.note(now_ms, CENTER, "grant_withdrawn", what, grant.school)
                rows.put(replace(grant, withdrawn_by=CENTER, withdrawn_ms=now_ms))
                count += 1
        if count:
            rows.count_change()
    return count


def _no_more(envelope: str, tree: Tree, unit: str, target: str, trust: Trust, now_ms: int) -> str:
    """Say why a document that was believed once is not any more; empty while it is.

    What has ended by itself, or whose unit is gone from the tree, is left as it is.
    """
    if unit not in tree:
        return ""
    try:
        judge(envelope.encode(), trust, place_for(tree, unit, target), now_ms // 1000, TOOLS)
    except Refused as why:
        return "" if why.reason in _ENDED_ANYWAY else why.reason
    return ""
