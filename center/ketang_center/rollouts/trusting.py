"""The trust document that is in force at this centre, and those that lead a device to it."""

import json
from collections.abc import Callable

from ketang_contract import strict_json
from ketang_contract.errors import BadInput
from ketang_contract.layers import MAX_TRUST
from ketang_contract.trust import Purpose, Trust, read_accepted


class TrustHeld:
    """What ``enrolment.documents.TrustDocuments`` serves, taken apart. Any thread.

    Args:
        get: gives a JSON array of envelopes, oldest first.
    """

    def __init__(self, get: Callable[[], bytes]) -> None:
        self._get = get
        self._read: tuple[bytes, tuple[tuple[Trust, bytes], ...]] = (b"", ())

    def _chain(self) -> tuple[tuple[Trust, bytes], ...]:
        raw = self._get()
        seen, chain = self._read
        if raw != seen:
            envelopes = (strict_json.canonical(one) for one in json.loads(raw))
            chain = tuple((read_accepted(one), one) for one in envelopes)
            self._read = raw, chain
        return chain

    def latest(self) -> Trust:
        """Return the document in force."""
        return self._chain()[-1][0]

    def placing_epoch(self) -> int | None:
        """Return the epoch of the keys that sign placements; None: no document is held here."""
        try:
            return self.latest().epoch_of(Purpose.CONFIG, ())
        except BadInput:
            return None

    def newer_than(self, version: int) -> tuple[bytes, ...]:
        """Return what a device still has to be led through, oldest first, as a bundle takes it.

        Nothing for a device that holds none, or has not told: it got its first when it enrolled.
        """
        if not version:
            return ()
        return tuple(raw for said, raw in self._chain() if said.version > version)[:MAX_TRUST]
