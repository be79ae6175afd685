"""Devices that have something else than they should, outside any turn: brought up, not all at once.

A device that was off, that has moved, or whose permits or trust document changed gets what it is to
have as soon as that is noticed. None of this is new to the fleet: a release comes by its turn.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ketang_center.rollouts.sending import Parcel, Sender, Told
from ketang_center.rollouts.values import Placed
from ketang_contract.state import Birth

PER_MINUTE = 1200
_A_STEP = 100
"""Looked at in one step: a fleet is walked in minutes, and nothing waits for it."""
_MINUTE_MS = 60_000


class CatchingUp:
    """Three queues: who is asked again, who was born with something else, who may have another."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._again: dict[str, None] = {}
        self._born: dict[str, tuple[str, int]] = {}
        self._look: dict[str, None] = {}
        self._sent_ms: deque[int] = deque()

    def repeat(self, devices: Iterable[str]) -> None:
        """Send the same once more."""
        self._again.update(dict.fromkeys(devices))

    def born(self, device: str, birth: Birth, at_ms: int) -> None:
        """A device has connected, and told what it was last brought; a later word counts more."""
        told = self._sender.told.get(device, Told())
        late = told.session >= birth.session
        brought = told.desired if late else birth.config_desired or ""
        had = self._sender.had.get(device)
        if had is None or had.hash != brought:
            self._born[device] = brought, at_ms

    def look_at(self, devices: Iterable[str]) -> None:
        """Something that their bundles are made of may have changed."""
        self._look.update(dict.fromkeys(devices))

    def step(
        self,
        placed: Mapping[str, Placed],
        busy: Collection[str],
        fixed: Collection[str],
        follow: Callable[[list[tuple[str, str]]], None],
        now_ms: int,
    ) -> None:
        """Bring up as many as the minute allows.

        Args:
            placed: every device's placement.
            busy: who has something at hand and has not told how it went: sent nothing new.
            fixed: who failed something: a person decides whether it is tried again, under this
                name or another.
            follow: told, before anything is sent, under which hash a device now has it.
            now_ms: UTC.
        """
        while self._sent_ms and not now_ms - _MINUTE_MS < self._sent_ms[0] <= now_ms:
            self._sent_ms.popleft()
        parcels = self._parcels(placed, busy, fixed, now_ms)
        if not parcels:
            return
        with self._sender.book.transaction():
            self._sender.book.put_had(one.had for one in parcels)
            follow([(one.had.device, one.had.hash) for one in parcels if one.had.device in busy])
        for one in parcels:
            self._sender.publish(one)
            self._sent_ms.append(now_ms)

    def _parcels(
        self,
        placed: Mapping[str, Placed],
        busy: Collection[str],
        fixed: Collection[str],
        now_ms: int,
    ) -> list[Parcel]:
        room = PER_MINUTE - len(self._sent_ms)
        found: dict[str, Parcel] = {}
        queues: tuple[dict[str, Any], ...] = (self._again, self._born, self._look)
        for queue in queues:
            for device in list(queue)[:_A_STEP]:
                if len(found) >= room:
                    return list(found.values())
                born = queue.pop(device)
                parcel = (
                    self._sender.make(placed[device], None, now_ms) if device in placed else None
                )
                if parcel is None or (device in fixed and self._renames(parcel)):
                    continue
                other = self._sender.differs(parcel) and device not in busy
                lacks = queue is self._born and self._lacks(parcel, *born)
                if queue is self._again or other or lacks:
                    found[device] = parcel
        return list(found.values())

    def _renames(self, parcel: Parcel) -> bool:
        had = self._sender.had.get(parcel.had.device)
        return had is not None and had.hash != parcel.had.hash

    def _lacks(self, parcel: Parcel, brought: str, born_ms: int) -> bool:
        """Tell whether a device was not brought what it should have, and was sent nothing since."""
        had = self._sender.had.get(parcel.had.device)
        return brought != parcel.had.hash and (had is None or had.sent_ms < born_ms)
