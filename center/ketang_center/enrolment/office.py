"""What a person decides of devices: let one in that waited, turn it away, throw one out.

The enrolment book is written first, in one transaction, the register after it. What a crash leaves
between the two, ``heal`` puts right: the book knows who is at work and who is out.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from cryptography import x509

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import APPROVED, REFUSED, Book
from ketang_center.enrolment.registering import device_id
from ketang_center.enrolment.values import Asset, Certificate, Waiting
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Device, Kind, Placement, Service, ServiceState
from ketang_contract.errors import BadInput
from ketang_provisioning.certificates import certificate_pem, common_name


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
        book, moved = self._book, list[_Move]()
        with book.transaction():
            asked = self._asked(no)
            chosen = book.asset(asked.school, asset) if asset else book.asset_of(asked.device)
            if chosen is None or chosen.school != asked.school:
                raise BadInput(
                    f"request {no}: name an asset of {asked.school}; register it first if need be"
                )
            taken = chosen.claimed_ms is not None or book.is_barred(chosen.device)
            if asked.code_id and taken:  # a renewal goes on under its own name
                moved = self._bar(chosen.device, Why.REPLACED, by)
                chosen = moved[0].asset if moved else chosen
            what = f"{chosen.device} {asked.serial}"
            self._audit.note(self._now_ms(), by, "enrol_approved", what, asked.school)
            book.settle(no, APPROVED, chosen.device)
        self._register(moved)

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
        book = self._book
        known = book.asset_of(device) or book.certificates_of(device)
        if not known and self._registry.device(device) is None:
            raise BadInput(f"{device}: no device of this name is known here")
        fresh = not book.is_barred(device)
        if fresh:  # a thief's device is not freed by throwing it out once more
            with book.transaction():
                moved = self._bar(device, why, by)
            self._register(moved)
        if self._registry.device(device) is not None:
            state = Service(device=device, state=_STATES[why], from_ms=self._now_ms())
            self._registry.set_service(state)
        return fresh

    def revoke_certificate(self, pem: str, why: Why, by: str) -> str:
        """Revoke one certificate, a service's for one; return its number in hex.

        Raises:
            BadInput: it is no certificate.
        """
        try:
            (made, *_) = x509.load_pem_x509_certificates(pem.encode())
        except ValueError:
            raise BadInput("no certificate in PEM is in this file") from None
        serial, name, now_ms = f"{made.serial_number:x}", common_name(made), self._now_ms()
        self._audit.note(now_ms, by, "revoke_certificate", f"{name} {serial} {why.value}")
        self._book.add_certificate(
            Certificate(
                serial=serial,
                device=name,
                key_id="",
                pem=certificate_pem(made).decode(),
                from_ms=int(made.not_valid_before_utc.timestamp() * 1000),
                until_ms=int(made.not_valid_after_utc.timestamp() * 1000),
                revoked_ms=now_ms,
            )
        )
        return serial

    def _asked(self, no: int) -> Waiting:
        asked = self._book.waiting_no(no)
        if asked is None or asked.verdict:
            raise BadInput(f"request {no}: nothing of this number waits")
        return asked

    def _bar(self, device: str, why: Why, by: str) -> "list[_Move]":
        """Bar in the open transaction; where the asset may come back, give it its next name."""
        now_ms, book = self._now_ms(), self._book
        unit = self._registry.school_of(device, now_ms) or ""
        self._audit.note(now_ms, by, "revoke", f"{device} {why.value}", unit)
        asset = book.asset_of(device)
        book.revoke(device, at_ms=now_ms, why=why.value, by=by)
        if asset is None or why not in _FREED:
            return []

        def is_taken(name: str) -> bool:
            return (
                book.is_barred(name)
                or book.asset_of(name) is not None
                or self._registry.device(name) is not None
            )

        renamed = replace(
            asset, device=device_id(asset.school, asset.asset, is_taken), claimed_ms=None
        )
        book.replace_asset(renamed)
        return [_Move(device, renamed)]

    def _register(self, moved: "list[_Move]") -> None:
        """Tell the register, after the book is durable: new names stand in stock."""
        for one in moved:
            before = self._registry.device(one.before)
            if before is not None:
                self._registry.add_device(replace(before, id=one.asset.device))
            heal_asset(self._registry, one.asset, ServiceState.STOCK, self._now_ms())
            if before is not None:
                out = Service(
                    device=one.before, state=_STATES[Why.REPLACED], from_ms=self._now_ms()
                )
                self._registry.set_service(out)


@dataclass(frozen=True, slots=True)
class _Move:
    """An asset that left a barred name for its next one."""

    before: str
    asset: Asset


def send_to_work(registry: Registry, asset: Asset, now_ms: int) -> None:
    """Tell the register that an asset is in service. Asked twice, it does it once."""
    heal_asset(registry, asset, ServiceState.IN_SERVICE, now_ms)


def heal_asset(registry: Registry, asset: Asset, state: ServiceState, now_ms: int) -> None:
    """Make the register know an asset under its present name, in its room, in this state."""
    if registry.device(asset.device) is None:
        registry.add_device(
            Device(id=asset.device, kind=asset.kind, name=asset.asset, shared=_shared(asset.kind))
        )
    if not registry.placements(asset.device):
        registry.place(Placement(device=asset.device, room=asset.room, from_ms=now_ms))
    if registry.service_state(asset.device, now_ms) is not state:
        registry.set_service(Service(device=asset.device, state=state, from_ms=now_ms))


def heal(book: Book, registry: Registry, now_ms: int) -> int:
    """Bring the register up to the book, after a crash or a restore; return what was amiss.

    Who is claimed and not barred is in service, whatever is registered and unknown stands in
    stock, who is barred is in service nowhere. What people set of the others stays.
    """
    states, count = registry.service_states(now_ms), 0
    barred = {one.device: one.why for one in book.revocations()}
    for asset in book.assets():
        claimed = asset.claimed_ms is not None and asset.device not in barred
        known = states.get(asset.device)
        if known is None or (claimed and known is ServiceState.STOCK):
            wanted = ServiceState.IN_SERVICE if claimed else ServiceState.STOCK
            with suppress(BadInput):  # its room is gone from the tree: a person has to place it
                heal_asset(registry, asset, wanted, now_ms)
                count += 1
    for device, why in barred.items():
        if states.get(device) is ServiceState.IN_SERVICE:
            state = _STATES[Why(why)] if why in set(Why) else ServiceState.STOCK
            registry.set_service(Service(device=device, state=state, from_ms=now_ms))
            count += 1
    return count


def _shared(kind: Kind) -> bool:
    """Whether a class uses it, as far as its kind tells; a person's until declared otherwise."""
    return kind not in {Kind.STUDENT_TABLET, Kind.TEACHER_PC}
