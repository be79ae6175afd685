"""What a restored backup must not forget, kept in a folder on another machine.

The journal of the enrolment book goes there line by line, each under an HMAC, so that a stranger
who can write to that folder cannot bar a device or let one in. A centre whose book is older than
that file was restored, and is brought up to it before anything else happens.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from ketang_center.enrolment.rows import Rows
from ketang_contract.errors import BadInput

FILE = "ketang-enrolment.jsonl"
_LINES = 1000


class Offsite:
    """``folder`` is on another machine; it may be away. ``key``: that of the codes."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._path, self._key = folder / FILE, key
        self._sent: int | None = None

    def send(self, rows: Rows) -> int:
        """Append what is not there yet; return how many lines.

        Raises:
            OSError: the folder is away; what is owed is sent later.
            BadInput: the file knows more than the book.
        """
        if self._sent is None:
            last = self._last()
            if last > rows.version():
                raise BadInput(
                    "this centre was put back from a backup: stop it, run: ketang center restored"
                )
            self._sent = last
        count = 0
        while lines := rows.journal(self._sent, _LINES):
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n")  # ends a line that a crash may have cut
                file.writelines(self._line(no, body) for no, body in lines)
                file.flush()
                os.fsync(file.fileno())
            self._sent = lines[-1][0]
            count += len(lines)
        return count

    def bring_back(self, rows: Rows) -> int:
        """Replay what the book does not have; return how many lines it was behind.

        Raises:
            OSError: the folder is away.
            BadInput: lines are missing, or were written by somebody else.
        """
        last = rows.version()
        before, batch = last, list[tuple[int, str]]()
        for no, body in self._lines():
            if no <= last:
                continue
            if no != last + 1:
                raise BadInput(
                    f"{self._path}: lines {last + 1} to {no - 1} are missing or not ours"
                )
            batch.append((no, body))
            last = no
            if len(batch) >= _LINES:
                rows.replay(batch)
                batch.clear()
        rows.replay(batch)
        return last - before

    def ahead(self, rows: Rows) -> bool:
        """Tell whether the book was put back from a backup: the file knows more than it does.

        Raises:
            OSError: the folder is away.
        """
        return self._last() > rows.version()

    def _last(self) -> int:
        return max((no for no, _ in self._lines()), default=0)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield what is really ours; a line cut by a crash is sent again after it."""
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"{self._path.parent}: is not there")
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                found = self._read(line)
                if found is not None:
                    yield found

    def _read(self, line: str) -> tuple[int, str] | None:
        try:
            said = json.loads(line)
            no, body, mac = int(said["no"]), str(said["body"]), bytes.fromhex(said["mac"])
            self._mac(no, body).verify(mac)
        except (ValueError, KeyError, TypeError, InvalidSignature):
            return None
        return no, body

    def _line(self, no: int, body: str) -> str:
        mac = self._mac(no, body).finalize().hex()
        return json.dumps({"no": no, "body": body, "mac": mac}, ensure_ascii=False) + "\n"

    def _mac(self, no: int, body: str) -> HMAC:
        mac = HMAC(self._key, hashes.SHA256())
        mac.update(b"ketang journal\n%d\n" % no + body.encode())
        return mac
