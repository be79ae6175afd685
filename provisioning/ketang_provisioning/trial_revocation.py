"""A probe's certificate on the list that a broker lives by, for as long as the check lasts.

The file is the centre's, which may replace it at any moment: what it wrote meanwhile is never
overwritten. Owner and mode stay. When the check is over the content of before is put back; the
broker keeps the one with the probe in it (its number is higher), says so once, and takes the next
list that the centre makes.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_contract.errors import BadInput
from ketang_provisioning import revocations
from ketang_provisioning.certificates import SLOW_CLOCK, Authority
from ketang_provisioning.keys import flush_folder

_TRIES = 5


class TrialRevocation:
    """``revoke`` within a ``with``; at its end the file is what it was.

    Args:
        crl: the file that the broker's ``crl`` names.
        authorities: of the clients, all of them.
        before_rename: called between the writing and the renaming: where the centre may come first.
    """

    def __init__(
        self,
        crl: Path,
        authorities: Sequence[Authority],
        before_rename: Callable[[], None] = lambda: None,
    ) -> None:
        self._crl, self._authorities = crl, authorities
        self._before_rename = before_rename
        self._before = self._ours = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ours:
            try:
                self._replace(self._ours, self._before)
            except OSError as failure:
                raise BadInput(f"{self._crl}: {failure.strerror}") from None

    def revoke(self, serial: int) -> None:
        """Add a certificate to the lists.

        Raises:
            BadInput: the file cannot be read or written, or holds lists of other authorities.
        """
        try:
            for _ in range(_TRIES):
                before = self._crl.read_bytes()
                ours = self._with(before, serial)
                if self._replace(before, ours):
                    self._before = self._before if before == self._ours else before
                    self._ours = ours
                    return
        except OSError as problem:
            raise BadInput(f"{self._crl}: {problem.strerror}") from None
        raise BadInput(f"{self._crl}: changes all the time; who else writes it?")

    def _with(self, raw: bytes, serial: int) -> bytes:
        held = revocations.read(raw, [one.certificate for one in self._authorities], str(self._crl))
        now = datetime.now(UTC)
        # a second later than those held: times in a list are whole seconds
        made = max(now, held.made + SLOW_CLOCK + timedelta(seconds=1))
        return b"".join(
            one.revocation_list(
                [(each, now) for each in (*held.serials, serial)], now=made, number=held.number + 1
            )
            for one in self._authorities
        )

    def _replace(self, wanted: bytes, content: bytes) -> bool:
        """Replace the file if it holds what is wanted; false if it holds something else by now."""
        draft = self._crl.with_name(f".{self._crl.name}.trial")
        draft.unlink(missing_ok=True)  # left by a crash
        about = self._crl.stat()
        try:
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(content)
                file.flush()
                made = os.fstat(file.fileno())
                if (made.st_uid, made.st_gid) != (about.st_uid, about.st_gid):
                    os.fchown(file.fileno(), about.st_uid, about.st_gid)
                os.fchmod(file.fileno(), about.st_mode & 0o7777)
                os.fsync(file.fileno())
            self._before_rename()
            if self._crl.read_bytes() != wanted:
                return False
            draft.replace(self._crl)
        finally:
            draft.unlink(missing_ok=True)
        flush_folder(self._crl.parent)
        return True
