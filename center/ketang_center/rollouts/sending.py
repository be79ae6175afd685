"""From the book to the broker: what a device is to have, made, noted, published.

``make`` gives a note to be written and the bytes; whoever calls writes the note first.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ketang_center.rollouts.book import RolloutBook
from ketang_center.rollouts.bundles import Bundle, Composer
from ketang_center.rollouts.values import Had, Placed
from ketang_contract import topics
from ketang_contract.errors import Refused

log = logging.getLogger("ketang.rollouts")

Taken = Callable[[], bool]
"""Tells whether the broker has a message; False: not yet, or nobody will ever know."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a device said last: in which session, what it was brought, which document it holds."""

    session: int = -1
    desired: str = ""
    trust_version: int = 0


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is about to be sent to a device: the note of it, and the bytes."""

    had: Had
    raw: bytes


class Sender:
    """One thread: the engine's. ``say`` publishes, retained, QoS 1."""

    def __init__(
        self, book: RolloutBook, composer: Composer, say: Callable[[str, bytes], Taken]
    ) -> None:
        self.book = book
        self._composer, self._say = composer, say
        self.had: dict[str, Had] = {}
        self.told: dict[str, Told] = {}
        self._unsendable: set[str] = set()
        self._flying: dict[str, tuple[Had, Taken]] = {}
        """On its way to the broker, by device."""

    def forget(self, *, first: bool) -> None:
        """Read anew what devices were sent; ``first``: and what they told."""
        self._composer.forget()
        self.had = self.book.all_had()
        if first:
            self.told = {one[0]: Told(*one[1:]) for one in self.book.all_told()}

    def make(
        self,
        placed: Placed,
        attempt: int | None,
        now_ms: int,
        override: Mapping[str, str] | None = None,
    ) -> Parcel | None:
        """Make what a device is to have; None where it is to have nothing, or it cannot be sent.

        Args:
            placed: its placement.
            attempt: of this configuration; None: as it was sent before.
            now_ms: UTC.
            override: layers whose turn comes just now, by target.
        """
        device = placed.device
        try:
            bundle = self._composer.compose(
                placed, override, self.told.get(device, Told()).trust_version
            )
            if bundle is None:
                return None
            return self._parcel(bundle, attempt, now_ms)
        except (Refused, LookupError, ValueError) as why:
            if device not in self._unsendable:
                self._unsendable.add(device)
                log.error("rollout.unsendable device=%s why=%r", device, why)  # noqa: TRY400  (it is the documents' fault)
            return None

    def _parcel(self, bundle: Bundle, attempt: int | None, now_ms: int) -> Parcel:
        device = bundle.device
        had = self.had.get(device)
        same = had is not None and had.hash == bundle.hash
        if attempt is None:
            attempt = had.attempt if had and same else 0
        raw = bundle.write(attempt)
        version = max(bundle.trust_version, had.trust_version if had else 0)
        return Parcel(
            Had(
                device=device,
                hash=bundle.hash,
                stamp=bundle.stamp,
                attempt=attempt,
                sent_ms=now_ms,
                trust_version=version,
            ),
            raw,
        )

    def differs(self, parcel: Parcel) -> bool:
        """Tell whether it is another thing than what the device was sent last."""
        had, new = self.had.get(parcel.had.device), parcel.had
        return had is None or (had.hash, had.stamp, had.attempt, had.trust_version) != (
            new.hash,
            new.stamp,
            new.attempt,
            new.trust_version,
        )

    def publish(self, parcel: Parcel) -> None:
        """Send what was noted."""
        had = parcel.had
        self.had[had.device] = had
        self._flying[had.device] = had, self._say(topics.of(had.device, topics.DESIRED), parcel.raw)

    def note_taken(self) -> None:
        """Write down what the broker has taken over since the last call."""
        landed = [had for had, taken in self._flying.values() if taken()]
        if not landed:
            return
        with self.book.transaction():
            self.book.set_out(landed)
        for one in landed:
            del self._flying[one.device]
            self.had[one.device] = replace(one, out=True)

    def not_taken(self) -> list[str]:
        """Return the devices for which the broker may not have what was noted."""
        return [one.device for one in self.had.values() if not one.out]
