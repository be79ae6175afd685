"""What a person decides of devices: let one in that waited, turn it away, throw one out.

The enrolment book is written first, the register after it: a crash between the two leaves a device
that may come in but stands in stock, which the next enrolment or ``throw_out`` puts right.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import APPROVED, REFUSED, Book
from ketang_center.enrolment.registering import device_id
from ketang_center.enrolment.values import Asset, Reason, Waiting
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Device, Kind, Placement, Service, ServiceState
from ketang_contract.errors import BadInput


class Why(StrEnum):
    """Why a device is thrown out."""

    LOST = "lost"
    STOLEN = "stolen"
    SCRAPPED = "scrapped"
    STOCK = "stock"
    CLONE = "clone"
    REPLACED = "replaced"
    """Its asset enrols anew, from a wiped disk."""


_STATES = {
    Why.LOST: ServiceState.LOST,
    Why.STOLEN: ServiceState.LOST,
    Why.SCRAPPED: ServiceState.SCRAPPED,
    Why.STOCK: ServiceState.STOCK,
    Why.CLONE: ServiceState.STOCK,
    Why.REPLACED: ServiceState.SCRAPPED,
}
_FREED = frozenset({Why.STOCK, Why.CLONE, Why.REPLACED})
"""After these the asset may be claimed again, under a new id."""


class Office:
    """One thread: the registry's. ``now_ms`` is the centre's clock."""

    def __init__(
        self, book: Book, registry: Registry, audit: Audit, now_ms: Callable[[], int]
    ) -> None:
        self._book, self._registry, self._audit, self._now_ms = book, registry, audit, now_ms

    def approve(self, no: int, by: str, asset: str = "") -> None:
        """Let a waiting device in as an asset of the code's school; it is served when it asks next.

        Args:
            no: the request's number.
            by: who decides.
            asset: inventory number of an asset of that school; empty: the one that matches.

        Raises:
            BadInput: no such request, or no asset it could be.
        """
        book = self._book
        with book.transaction():
            asked = self._asked(no)
            chosen = book.asset(asked.school, asset) if asset else book.asset_of(asked.device)
            if chosen is None or chosen.school != asked.school:
                raise BadInput(
                    f"request {no}: name an asset of {asked.school}; register it first if need be"
                )
            if asked.reason is not Reason.EXPIRED_TOO_LONG:
                chosen = self._freed(chosen, by)
            book.settle(no, APPROVED, chosen.device)
        what = f"{chosen.device} {asked.serial}"
        self._audit.note(self._now_ms(), by, "enrol_approved", what, asked.school)

    def refuse(self, no: int, by: str) -> None:
        """Turn a waiting device away for good.

        Raises:
            BadInput: no such request.
        """
        asked = self._asked(no)
        self._audit.note(
            self._now_ms(), by, "enrol_denied", f"{asked.serial} {asked.reason}", asked.school
        )
        self._book.settle(no, REFUSED)

    def throw_out(self, device: str, why: Why, by: str) -> bool:
        """Bar a device for ever; False when it was barred before.

        Raises:
            BadInput: no device of this id was ever enrolled or registered.
        """
        book, now_ms = self._book, self._now_ms()
        known = book.asset_of(device) or book.certificates_of(device)
        if not known and self._registry.device(device) is None:
            raise BadInput(f"{device}: no device of this name is known here")
        unit = self._registry.school_of(device, now_ms) or ""
        self._audit.note(now_ms, by, "revoke", f"{device} {why.value}", unit)
        with book.transaction():
            fresh = book.revoke(device, at_ms=now_ms, why=why.value, by=by)
            asset = book.asset_of(device)
            if asset is not None and why in _FREED:
                self._renamed(asset)
        if self._registry.device(device) is not None:
            self._registry.set_service(Service(device=device, state=_STATES[why], from_ms=now_ms))
        return fresh

    def _asked(self, no: int) -> Waiting:
        asked = self._book.waiting_no(no)
        if asked is None or asked.verdict:
            raise BadInput(f"request {no}: nothing of this number waits")
        return asked

    def _freed(self, asset: Asset, by: str) -> Asset:
        """Make an asset claimable; what held it before is out for ever."""
        if asset.claimed_ms is None and not self._book.is_barred(asset.device):
            return asset
        self.throw_out(asset.device, Why.REPLACED, by)
        found = self._book.asset(asset.school, asset.asset)
        if found is None:
            raise BadInput(f"{asset.asset}: is registered no more")
        return found

    def _renamed(self, asset: Asset) -> None:
        def is_taken(name: str) -> bool:
            return (
                self._book.is_barred(name)
                or self._book.asset_of(name) is not None
                or self._registry.device(name) is not None
            )

        name = device_id(asset.school, asset.asset, is_taken)
        self._book.replace_asset(replace(asset, device=name, claimed_ms=None))
        before = self._registry.device(asset.device)
        if before is not None:
            now_ms = self._now_ms()
            self._registry.add_device(replace(before, id=name))
            self._registry.place(Placement(device=name, room=asset.room, from_ms=now_ms))
            self._registry.set_service(
                Service(device=name, state=ServiceState.STOCK, from_ms=now_ms)
            )


def send_to_work(registry: Registry, asset: Asset, now_ms: int) -> None:
    """Tell the register that an asset is in service. Asked twice, it does it once."""
    if registry.device(asset.device) is None:
        registry.add_device(
            Device(id=asset.device, kind=asset.kind, name=asset.asset, shared=_shared(asset.kind))
        )
    if not registry.placements(asset.device):
        registry.place(Placement(device=asset.device, room=asset.room, from_ms=now_ms))
    if registry.service_state(asset.device, now_ms) is not ServiceState.IN_SERVICE:
        registry.set_service(
            Service(device=asset.device, state=ServiceState.IN_SERVICE, from_ms=now_ms)
        )


def _shared(kind: Kind) -> bool:
    """Whether a class uses it, as far as its kind tells; a person's until declared otherwise."""
    return kind not in {Kind.STUDENT_TABLET, Kind.TEACHER_PC}
