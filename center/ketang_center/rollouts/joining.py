"""Who belongs to a rollout: all whose signed way leads through its target, whenever they came."""

from collections.abc import Mapping

from ketang_center.rollouts.book import Rollout, RolloutBook
from ketang_center.rollouts.order import spread
from ketang_center.rollouts.plan import Candidate, State
from ketang_center.rollouts.values import Member, Placed, Signed, What
from ketang_contract.state import ConfigState

NO_SCHOOL = "-"
NO_KIND = "-"


def join(
    book: RolloutBook,
    rollout: Rollout,
    layer: Signed,
    placed: Mapping[str, Placed],
    kinds: Mapping[str, str],
    now_ms: int,
) -> list[Member]:
    """Write who has come to a rollout since, and forget who left before its turn; the members.

    Args:
        book: of the rollouts.
        rollout: a live one; to that of an undo nobody comes later.
        layer: what it brings.
        placed: every device's placement.
        kinds: every device's kind, as the register has it.
        now_ms: UTC.
    """
    known = {one.device: one for one in book.members(rollout.no)}
    if rollout.what is What.UNDO:
        return list(known.values())
    there = set(book.below(rollout.target))
    left = [one.device for one in known.values() if _may_leave(one, there)]
    came = [
        Candidate(one, kinds.get(one, NO_KIND), placed[one].school or NO_SCHOOL)
        for one in there - known.keys()
        if one in placed
    ]
    if left or came:
        position = 1 + max((one.position for one in known.values()), default=0)
        order = {one: at for at, one in enumerate(spread(came, str(rollout.no)), position)}
        made = [
            Member(rollout.no, one.device, one.kind, one.school, order[one.device]) for one in came
        ]
        had = set(book.who_was_given(layer.target, layer.digest))
        made = [_as_it_is(book, one, layer, now_ms) if one.device in had else one for one in made]
        with book.transaction():
            book.put_members(made)
            book.drop_members(rollout.no, left)
        known |= {one.device: one for one in made}
    return [one for one in known.values() if one.device not in set(left)]


def _may_leave(one: Member, there: set[str]) -> bool:
    return one.device not in there and one.state is State.PENDING


def _as_it_is(book: RolloutBook, one: Member, layer: Signed, now_ms: int) -> Member:
    """Of a release that was begun before: who runs it need not be sent it again."""
    told = book.report(one.device)
    if told is None or told[0].config.state is not ConfigState.COMMITTED:
        return one
    if layer.at not in told[0].config.layers:
        return one
    return Member(
        one.rollout,
        one.device,
        one.kind,
        one.school,
        one.position,
        group=1,
        state=State.COMMITTED,
        updated_ms=now_ms,
    )
