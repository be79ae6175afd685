"""Hypothesis strategies for contract values, and real examples of every message."""

from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from ketang_contract import ack, commands, state
from ketang_contract.batch import SCHEMA, DropReason, Header, Sent
from ketang_contract.limits import AtMost, Between, Matches
from ketang_contract.records import (
    BODIES,
    Categories,
    Event,
    EventName,
    Family,
    Fault,
    IdleSource,
    Record,
    Stream,
    TimeQuality,
    Usage,
    to_json,
)

SENT = Sent(wall_ms=1_760_000_000_000, boot_id="b-1", boottime_ms=5_000)
DIGEST = "0" * 64
USAGE = Record(
    subject="ifp-0001",
    wall_ms=1_760_000_000_000,
    boot_id="b-1",
    boottime_ms=5_000,
    time=TimeQuality.SYNCED,
    body=Usage(
        window_s=300,
        active_s=200,
        presenting_s=60,
        idle_s=40,
        idle_source=IdleSource.XSCREENSAVER,
        categories=Categories(whiteboard=240, browser=20),
    ),
)
EXAMPLES: dict[str, list[Any]] = {
    "record": [
        USAGE,
        Record(
            subject="ifp-0001",
            wall_ms=0,
            boot_id="b-1",
            boottime_ms=0,
            time=TimeQuality.BAD,
            body=Event(name=EventName.FAULT_RAISED, fault=Fault.DISK_LOW),
        ),
    ],
    "header": [
        Header(
            schema=SCHEMA,
            store_id="s-1",
            stream=Stream.USE,
            head=9,
            seqs=((1, 2), (4, 4)),
            drops=((5, 9, DropReason.EVICTED),),
            sent=SENT,
        ),
    ],
    "ack": [
        ack.Ack(
            center_id="c-1",
            epoch=1,
            store_id="s-1",
            stream=Stream.USE,
            got=(DIGEST,),
            upto=3,
            have=((5, 9),),
            refused=((4, "bad_record"),),
            fork=((2, 3),),
        ),
        ack.Ack(center_id="c-1", epoch=2, unreadable=((DIGEST, "bad_compression"),)),
    ],
    "birth": [
        state.Birth(
            session=3,
            sent=SENT,
            agent_version="0.1.0",
            schema_oldest=1,
            schema_newest=SCHEMA,
            stores=(
                state.StoreState(
                    store_id="s-1",
                    current=True,
                    streams=(state.StreamState(stream=Stream.USE, head=9, acked=7),),
                ),
            ),
        ),
    ],
    "death": [state.Death(session=3), state.Death(session=4, orderly=True)],
    "live": [state.Live(session=3, faults=(Fault.SPOOL_FULL,), camera=state.Camera.STOPPED)],
    "reported": [
        state.Reported(
            session=3,
            sent=SENT,
            agent_version="0.1.0",
            profile="ops_pc",
            losses=(state.Loss(stream=Stream.OPS, reason=DropReason.EVICTED, records=12),),
        ),
    ],
    "answer": [
        commands.Answer(job="j-1", state=commands.State.REFUSED, reason="expired"),
        commands.Answer(
            job="j-1",
            state=commands.State.DONE,
            result=commands.Probed(family=Family.V6, rtt_ms=12, dns_ms=1, connect_ms=13),
        ),
    ],
}


def examples() -> list[tuple[str, Any]]:
    """Every message's examples as JSON values, by the message's name."""
    return [(name, to_json(one)) for name, many in EXAMPLES.items() for one in many]


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type of the contract, its limits kept, cross-field rules not."""
    origin = get_origin(kind)
    if origin is not None:
        return _generic(origin, get_args(kind))
    if kind is NoneType:
        return st.none()
    if is_dataclass(kind):
        return _built(kind)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return {int: st.integers(0, 2**40), bool: st.booleans(), str: st.text(max_size=8)}[kind]


def _generic(origin: Any, parts: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is Annotated:
        return _limited(parts[0], parts[1:])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, UnionType):
        return st.one_of(*(values(part) for part in parts))
    if parts[-1] is Ellipsis:
        return st.lists(values(parts[0]), max_size=4).map(tuple)
    return st.tuples(*(values(part) for part in parts))


def _limited(kind: Any, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    for mark in marks:
        if isinstance(mark, Between):
            return st.integers(mark.least, mark.most)
        if isinstance(mark, Matches):
            return st.from_regex(mark.pattern, fullmatch=True)
        if isinstance(mark, AtMost):
            return st.lists(values(get_args(kind)[0]), max_size=min(mark.items, 4)).map(tuple)
    return values(kind)


def _built(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    needed, optional = {}, {}
    for one in fields(kind):
        if one.name != "kind":
            must = one.default is MISSING and one.default_factory is MISSING
            (needed if must else optional)[one.name] = values(hints[one.name])
    return st.fixed_dictionaries(needed, optional=optional).map(_try(kind)).filter(bool)


def _try(kind: type) -> Any:
    def build(arguments: dict[str, Any]) -> Any:
        try:
            return kind(**arguments)
        except ValueError:
            return None  # a rule across fields; Hypothesis draws again

    return build


def _usage() -> st.SearchStrategy[Usage]:
    """Usage whose states fit the window: drawn at random they hardly ever would."""
    names = ("active_s", "presenting_s", "idle_s", "locked_s", "asleep_s", "unknown_s")
    shares = st.lists(st.integers(0, 50), min_size=6, max_size=6)
    return st.builds(
        lambda seconds, source: Usage(
            window_s=300, idle_source=source, **dict(zip(names, seconds, strict=True))
        ),
        shares,
        st.sampled_from(IdleSource),
    )


bodies = st.one_of(_usage(), *(values(kind) for kind in BODIES if kind is not Usage))
records = st.builds(
    Record,
    subject=values(get_type_hints(Record, include_extras=True)["subject"]),
    wall_ms=st.integers(0, 253_402_300_799_999),
    boot_id=st.just("b-1"),
    boottime_ms=st.integers(0, 2**53 - 1),
    time=st.sampled_from(TimeQuality),
    body=bodies,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
