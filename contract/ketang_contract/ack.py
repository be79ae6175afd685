"""The centre's own acknowledgement: the only thing that marks a record as safe.

``got`` names whole batches by digest, and a device marks only the records of batches it knows to
have sent. ``upto`` and ``have`` tell what the centre holds (after a restore: what it has held since
before it, docs/adr/0007); they serve requeueing after a new epoch and never mark. The parser is
standard library only: the supervisor reads these.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from ketang_contract.errors import Refused
from ketang_contract.limits import AtMost, Counter64, Digest, Identifier, Matches, Seq, Value
from ketang_contract.ranges import RangeSet
from ketang_contract.records import Stream

MAX_HAVE = 64
Reason = Annotated[str, Matches("[a-z0-9_]{1,40}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Value):
    """``dn/ack``. Without a store it speaks only of ``unreadable`` frames or announces the epoch.

    ``refused`` and ``fork`` speak of the batches in ``got`` and of nothing else; an ack that has
    them names one batch, because two clones of a device share this topic.
    """

    center_id: Identifier
    epoch: Counter64
    store_id: Identifier | None = None
    stream: Stream | None = None
    got: tuple[Digest, ...] = ()
    upto: Counter64 = 0
    have: Annotated[tuple[tuple[Seq, Seq], ...], AtMost(MAX_HAVE)] = ()
    refused: tuple[tuple[Seq, Reason], ...] = ()
    fork: tuple[tuple[Seq, Seq], ...] = ()
    unreadable: tuple[tuple[Digest, Reason], ...] = ()

    @property
    def held(self) -> RangeSet:
        """All the centre says it may be asked about: ``upto`` and ``have`` together."""
        return RangeSet.span(1, self.upto) | RangeSet.of(self.have)


def parse(payload: bytes) -> Ack:
    """Read an acknowledgement.

    Raises:
        Refused: not one; the device goes on as if nothing had come.
    """
    try:
        body = json.loads(payload)
        stream = body.get("stream")
        return Ack(
            center_id=_text(body["center_id"]),
            epoch=_number(body["epoch"]),
            store_id=None if body.get("store_id") is None else _text(body["store_id"]),
            stream=None if stream is None else Stream(stream),
            got=tuple(_text(one) for one in body.get("got", ())),
            upto=_number(body.get("upto", 0)),
            have=_ranges(body.get("have", ())),
            refused=tuple((_number(seq), _text(why)) for seq, why in body.get("refused", ())),
            fork=_ranges(body.get("fork", ())),
            unreadable=tuple((_text(one), _text(why)) for one, why in body.get("unreadable", ())),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise Refused("bad_ack", str(problem)[:120]) from problem


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise TypeError("whole number expected")
    return value


def _ranges(value: Any) -> tuple[tuple[int, int], ...]:
    found = tuple((_number(first), _number(last)) for first, last in value)
    if any(not 1 <= first <= last for first, last in found):
        raise ValueError("range runs backwards")
    return found
