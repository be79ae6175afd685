"""What a restored backup must not forget, kept in a folder on another machine.

The journal of the enrolment book goes there line by line, each under an HMAC, so that a stranger
who can write to that folder cannot bar a device or let one in. A centre was put back from a backup
when the file holds a line that its book has never had; then that line is merged into the book
(``merging``). The book is compared with the file line by line, for a book that was put back goes on
with the numbers of the lines it has forgotten.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from ketang_center.enrolment import merging
from ketang_center.enrolment.rows import Line, Rows
from ketang_contract.errors import BadInput

log = logging.getLogger("ketang.enrolment")

FILE = "ketang-enrolment.jsonl"
_LINES = 1000
_SENT = "offsite"
"""Mark in the book: lines were sent once, so a folder without the file is the wrong folder."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """The file beside the book.

    Attributes:
        unknown: how many lines of the file the book never had.
        last: the last line of the book that was looked at.
        owed: numbers of the book's lines up to it that the file lacks.
    """

    unknown: int
    last: int
    owed: list[int]


class Offsite:
    """``folder`` is on another machine; it may be away. ``key``: that of the codes. One thread."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._path, self._key = folder / FILE, key
        self._sent: int | None = None
        self._identity: tuple[int, int] | None = None
        self.came_back = 0
        """Lines that ``send`` found in the file and merged into the book."""

    def send(self, rows: Rows) -> int:
        """Append what is not there yet; return how many lines.

        The first time, and whenever another file is there, all of it is compared: lines that were
        damaged are written again, and what the book had forgotten comes back at once.

        Raises:
            OSError: the folder is away; what is owed is sent later.
            BadInput: the file is another centre's.
        """
        count = 0
        if self._sent is None or self._identity != self._seen():
            count += self._send_what_is_owed(rows)
        while lines := rows.journal(self._sent or 0, _LINES):
            self._append(rows, lines)
            self._sent = lines[-1][0]
            count += len(lines)
        return count

    def bring_back(self, rows: Rows) -> int:
        """Merge what the book does not know, bars first; return how many lines that were.

        Damaged lines are passed over: one of them must not keep back the bars behind it.

        Raises:
            OSError: the folder is away.
            BadInput: the file is another centre's.
        """
        count = 0
        for bars_alone in (True, False):
            batch = list[Line]()
            for line in self._lines():
                if _is_known(rows, line) or (bars_alone and not merging.is_bar(line)):
                    continue
                batch.append(line)
                count += 1
                if len(batch) >= _LINES:
                    merging.take_in(rows, batch)
                    batch.clear()
            merging.take_in(rows, batch)
        if count or rows.mark(merging.PUT_BACK):
            merging.settle(rows, self._compare(rows).owed)
        missing = rows.last_no() - rows.number("SELECT count(*) FROM journal")
        if missing:
            log.error("offsite.damaged %s: lines that nobody has any more: %d", self._path, missing)
        return count

    def ahead(self, rows: Rows) -> bool:
        """Tell whether the book was put back from a backup: the file knows what it does not.

        Raises:
            OSError: the folder is away.
            BadInput: the file is another centre's.
        """
        self._check_mount(rows)
        return self._compare(rows).unknown > 0

    def _send_what_is_owed(self, rows: Rows) -> int:
        self._check_mount(rows)
        compared = self._compare(rows)
        if compared.unknown:
            came = self.bring_back(rows)
            self.came_back += came
            log.error(
                "offsite.brought_back lines=%d: this centre was put back from a backup; restart it,"
                " so that devices send it again what it lost",
                came,
            )
            compared = self._compare(rows)
        for first in range(0, len(compared.owed), _LINES):
            wanted = compared.owed[first : first + _LINES]
            self._append(rows, [(no, body) for no in wanted if (body := rows.line(no)) is not None])
        self._sent, self._identity = compared.last, self._seen()
        return len(compared.owed)

    def _compare(self, rows: Rows) -> _Compared:
        last, unknown = rows.last_no(), 0
        held = bytearray(last + 1)
        for line in self._lines():
            if rows.line(line[0]) != line[1]:
                unknown += not rows.came(line)
            elif line[0] <= last:
                held[line[0]] = 1
        owed = [no for (no,) in rows.table("SELECT no FROM journal WHERE no <= ?", last)]
        return _Compared(unknown, last, [no for no in owed if not held[no]])

    def _check_mount(self, rows: Rows) -> None:
        """Tell an empty folder from the place where the folder should be mounted.

        Raises:
            FileNotFoundError: the file was there once.
        """
        if rows.mark(_SENT) and not self._path.exists():
            raise FileNotFoundError(
                f"{self._path}: is not there, and lines were sent to it: mount the folder; or, if"
                " it is gone for good, make an empty file of that name"
            )

    def _seen(self) -> tuple[int, int] | None:
        try:
            about = self._path.stat()
        except FileNotFoundError:
            return None
        return about.st_dev, about.st_ino

    def _append(self, rows: Rows, lines: list[Line]) -> None:
        if not lines:
            return
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with os.fdopen(os.open(self._path, how, 0o600), "w", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a crash may have cut
            file.writelines(self._line(no, body) for no, body in lines)
            file.flush()
            os.fsync(file.fileno())
        if not rows.mark(_SENT):
            rows.set_mark(_SENT, 1)

    def _lines(self) -> Iterator[Line]:
        """Yield what is really ours, in the order of the file.

        Raises:
            OSError: the folder is away.
            BadInput: not one of its lines is ours.
        """
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"{self._path.parent}: is not there")
        if not self._path.exists():
            return
        ours = foreign = 0
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                found = _read(text)
                if found is None:
                    continue  # cut by a crash, or damaged
                line, mac = found
                try:
                    self._mac(*line).verify(mac)
                except InvalidSignature:
                    foreign += 1
                    continue
                ours += 1
                yield line
        if foreign and not ours:
            raise BadInput(
                f"{self._path}: none of its {foreign} lines was made with this centre's code_key;"
                " put back the code.key they were made with, or name another folder as offsite"
            )

    def _line(self, no: int, body: str) -> str:
        mac = self._mac(no, body).finalize().hex()
        return json.dumps({"no": no, "body": body, "mac": mac}, ensure_ascii=False) + "\n"

    def _mac(self, no: int, body: str) -> HMAC:
        mac = HMAC(self._key, hashes.SHA256())
        mac.update(b"ketang journal\n%d\n" % no + body.encode())
        return mac


def _is_known(rows: Rows, line: Line) -> bool:
    return rows.line(line[0]) == line[1] or rows.came(line)


def _read(text: str) -> tuple[Line, bytes] | None:
    try:
        said = json.loads(text)
        return (int(said["no"]), str(said["body"])), bytes.fromhex(said["mac"])
    except (ValueError, KeyError, TypeError):
        return None
