"""What must hold once the world is at rest."""

from collections import Counter

from ketang_agent.spool.values import Lane
from ketang_center.store.sqlite import Key
from ketang_contract.ranges import RangeSet
from tests.simulator.machine import DEVICE, Machine
from tests.simulator.world import World

HOUR_MS = 3_600_000


def check(world: World) -> None:
    """Nothing lost, nothing twice, every number told, every row known to its ledger."""
    rows = world.rows()
    stored = Counter(world.contents[bytes(line)] for *_, line in rows)
    twice = {nonce for nonce, count in stored.items() if count > 1}
    assert not twice, f"stored twice: {twice}"
    keys = Counter(row[:4] for row in rows)
    assert max(keys.values(), default=0) <= 1, f"two rows of one number: {keys}"
    lost = world.must - set(stored)
    assert not lost, f"lost: {lost}"
    _check_rows_are_marked(world)
    for machine in world.machines:
        for lane in machine.spool.lanes():
            _check_ledger(world, machine, lane)
    if not world.copied:
        # Where two copies use one number, a stored record hides that the other was refused before.
        _check_refused_once(world)
        _check_nothing_was_contested(world)


def _check_ledger(world: World, machine: Machine, lane: Lane) -> None:
    """Every number of a store is known at the centre.

    But for one: a number that was moved to a fork is known by the other copy's content, and where
    a restore lost that and its sender is gone nobody tells of it: the old store is abandoned.
    """
    ledger = world.store.control.ledger(Key(DEVICE, lane.store_id, lane.stream))
    owed = RangeSet.span(1, machine.spool.head(lane))
    if world.reached["restore"]:
        owed -= _moved(machine, lane)
    assert not owed or ledger.head >= owed.last
    assert ledger.head >= (ledger.known.last if ledger.known else 0)
    short = list(owed - ledger.known)
    assert not short, f"{lane} unaccounted: {short}"


def _moved(machine: Machine, lane: Lane) -> RangeSet:
    return RangeSet.of(
        machine.spool._db.execute(
            "SELECT first, last FROM fate WHERE lane = ? AND what = 'moved'",
            (machine.spool._lanes[lane].no,),
        )
    )


def _check_rows_are_marked(world: World) -> None:
    """A row without its mark would be in no figure, and in no ledger."""
    control = world.store.control
    dirty = set(control.db.execute("SELECT device, hour FROM dirty"))
    for device, store_id, stream, seq, _, true_ms, _ in world.rows():
        known = control.ledger(Key(device, store_id, stream)).stored
        assert seq in known, f"a row without its mark: {store_id} {stream} {seq}"
        assert (device, true_ms // HOUR_MS) in dirty, f"a row in no figure: {stream} {seq}"


def _check_refused_once(world: World) -> None:
    """What can never be accepted is kept apart once, however often it comes."""
    told = Counter(
        topic
        for (topic,) in world.store.control.db.execute(
            "SELECT topic FROM dead_letter WHERE reason = 'bad_record'"
        )
    )
    assert max(told.values(), default=0) <= 1, f"refused again and again: {told}"


def _check_nothing_was_contested(world: World) -> None:
    """Without a copied disk no number is ever used twice, so nothing may fork."""
    for machine in world.machines:
        stores = {lane.store_id for lane in machine.spool.lanes()}
        assert len(stores) == 1, f"{machine.name} forked without a cause"
    found = world.store.control.db.execute("SELECT count(*) FROM quarantine").fetchone()
    assert found == (0,), "quarantined without a cause"
