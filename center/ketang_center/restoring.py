"""A centre that was put back from a backup: what it forgot comes back before it hears a device.

Revocations, uses of codes and certificates come from the folder off the machine; records come from
the devices, which are told of a new epoch (ADR 7).
"""

from dataclasses import dataclass

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.offsite import Offsite
from ketang_center.settings import Settings
from ketang_center.store.sqlite import Store
from ketang_contract.errors import BadInput
from ketang_provisioning import codes


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: lines of the enrolment journal; and the epoch that devices now meet."""

    lines: int
    epoch: int


def offsite_of(settings: Settings) -> Offsite | None:
    """Return the folder off the machine; None where none is set, or nothing enrols here.

    Raises:
        BadInput: the key of the codes cannot be read.
    """
    if settings.offsite is None or settings.enrolment is None:
        return None
    return Offsite(settings.offsite, codes.read_key(settings.enrolment.code_key))


def was_put_back(settings: Settings) -> bool:
    """Tell whether the files here are older than what is kept off the machine.

    A folder that is away cannot be asked; then the centre serves, since schools wait.

    Raises:
        BadInput: the key of the codes cannot be read.
    """
    offsite = offsite_of(settings)
    if offsite is None:
        return False
    with Book(settings.data_dir / "enrolment.db") as book:
        try:
            return offsite.ahead(book.rows)
        except OSError:
            return False


def bring_back(settings: Settings, now_s: int) -> Restored:
    """Finish a restore. Run it before the centre serves; run twice, it costs a second resend.

    Raises:
        BadInput: the folder off the machine is away, or its lines are not this centre's.
    """
    lines, offsite = 0, offsite_of(settings)
    if offsite is not None:
        with Book(settings.data_dir / "enrolment.db") as book:
            try:
                lines = offsite.bring_back(book.rows)
            except OSError as problem:
                raise BadInput(f"offsite: cannot be read: {problem}; mount it first") from None
    with Store(settings.data_dir) as store:
        store.begin_epoch(now_s)
        return Restored(lines, store.control.epoch)
