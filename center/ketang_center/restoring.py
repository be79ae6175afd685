"""A centre that was put back from a backup: what it forgot comes back before it hears a device.

Revocations, withdrawals, uses of codes and certificates come from the folder off the machine;
records come from the devices, which are told of a new epoch (ADR 7). What would go on by itself
from where the backup left it stops (``restored_books``).
"""

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ketang_center import restored_books
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.merging import CAME, PUT_BACK, STOPPED
from ketang_center.enrolment.offsite import Offsite
from ketang_center.restored_books import Stopped
from ketang_center.settings import Settings
from ketang_center.store.sqlite import Store
from ketang_contract.errors import BadInput, KetangError
from ketang_provisioning import codes

log = logging.getLogger("ketang.center")

_PATIENCE_S = 15.0
"""Some hundred thousand lines are read in that time; a folder that hangs is not waited for."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back, lines of the enrolment journal; the epoch that devices meet; what stopped."""

    lines: int
    epoch: int
    stopped: Stopped


def offsite_of(settings: Settings) -> Offsite | None:
    """Return the folder off the machine; None where none is set, or nothing enrols here.

    Raises:
        BadInput: the key of the codes cannot be read.
    """
    if settings.offsite is None or settings.enrolment is None:
        return None
    return Offsite(settings.offsite, codes.read_key(settings.enrolment.code_key))


def was_put_back(settings: Settings, patience_s: float = _PATIENCE_S) -> bool:
    """Tell whether the files here are older than what is kept off the machine.

    A folder that is away cannot be asked; then the centre serves, since schools wait, and asks
    again while it does (``Offsite.send``).

    Raises:
        BadInput: the key of the codes cannot be read, or is not the one the lines were made with.
    """
    offsite = offsite_of(settings)
    if offsite is None:
        return False

    def look() -> bool:
        with Book(settings.data_dir / "enrolment.db") as book:
            return offsite.ahead(book.rows) or bool(book.rows.mark(PUT_BACK))

    try:
        return _in_time(look, patience_s)
    except OSError as problem:
        log.error(  # noqa: TRY400  (the reason is in the line)
            "offsite.away why=%s: it is not known whether this centre was put back from a backup;"
            " whoever was thrown out since may come in until the folder is back",
            problem,
        )
        return False


def bring_back(settings: Settings, now_s: int) -> Restored:
    """Finish a restore. Run it before the centre serves; run twice, it costs a second resend.

    The epoch comes first: a crash between the two leaves lines that are still to come, and those
    are noticed.

    Raises:
        BadInput: the folder off the machine is away, or its lines are not this centre's.
    """
    offsite = offsite_of(settings)
    if offsite is None:
        epoch = _begin_epoch(settings, now_s)
        return Restored(0, epoch, restored_books.stop(settings.data_dir, now_s * 1000))
    with Book(settings.data_dir / "enrolment.db") as book:
        try:
            offsite.ahead(book.rows)  # a folder that is away costs no resend
            epoch = _begin_epoch(settings, now_s)
            lines = offsite.bring_back(book.rows)
        except OSError as problem:
            raise BadInput(f"offsite: cannot be read: {problem}; mount it first") from None
        stopped = restored_books.stop(settings.data_dir, now_s * 1000)
        book.rows.set_mark(PUT_BACK, 0)
    return Restored(lines, epoch, stopped)


def stop_what_is_old(book: Book, folder: Path, now_ms: int) -> bool:
    """Stop at once what the centre, while it serves, finds to be as a backup left it.

    The rest of the restore comes with its next start.

    Returns:
        whether anything came back since the last call.
    """
    if book.rows.mark(PUT_BACK) != CAME:
        return False
    log.warning("center.was_restored %s", restored_books.stop(folder, now_ms))
    book.rows.set_mark(PUT_BACK, STOPPED)
    return True


def _begin_epoch(settings: Settings, now_s: int) -> int:
    with Store(settings.data_dir) as store:
        store.begin_epoch(now_s)
        return store.control.epoch


def _in_time(look: Callable[[], bool], patience_s: float) -> bool:
    """Ask in a thread that is left alone when it hangs.

    Raises:
        TimeoutError: it takes longer.
    """
    found = queue.SimpleQueue[bool | Exception]()

    def ask() -> None:
        try:
            found.put(look())
        except (OSError, KetangError, sqlite3.Error) as problem:
            found.put(problem)

    threading.Thread(target=ask, name="ketang-offsite-look", daemon=True).start()
    try:
        said = found.get(timeout=patience_s)
    except queue.Empty:
        raise TimeoutError(f"no answer in {patience_s:.0f} s") from None
    if isinstance(said, Exception):
        raise said
    return said
