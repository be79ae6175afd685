"""Which trust documents the centre hands out: those that a device would accept, oldest first.

A device that slept through a change of roots is led from the one it holds to the latest, so earlier
versions stay in the folder, under any name that begins with ``trust``. What else lies there, a
draft on its way between the holders or another region's document, is not handed out: one that is
refused would end the walk of every device.
"""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from ketang_contract.errors import BadInput
from ketang_contract.trust import Trust, TrustRefused, accept_chain, read_accepted

log = logging.getLogger("ketang.enrolment")

_Seen = tuple[tuple[str, int, int], ...]


class TrustDocuments:
    """Any thread. Read at once, and anew when a file of the folder changes.

    Raises:
        BadInput: the latest cannot be read, or no chain leads to it from the installers' roots.
    """

    def __init__(self, latest: Path, fingerprint: str) -> None:
        self._latest, self._fingerprint = latest, fingerprint
        self._lock = threading.Lock()
        self._seen = self._look()
        self._made = self._read()

    def get(self) -> bytes:
        """Return the documents: a JSON array, oldest first.

        While what is in the folder now cannot be served, what was there before is.
        """
        with self._lock:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                try:
                    self._made = self._read()
                except BadInput as why:
                    log.error("enrolment.trust_kept why=%s", why)  # noqa: TRY400  (a person's mistake)
            return self._made

    def _look(self) -> _Seen:
        found = []
        for file in self._files():
            try:
                stat = file.stat()
            except OSError:  # taken away this very moment
                continue
            found.append((file.name, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _files(self) -> list[Path]:
        return sorted({*self._latest.parent.glob("trust*.json"), self._latest})

    def _read(self) -> bytes:
        latest = _document(self._latest)
        found: dict[str, tuple[Trust, bytes, Path]] = {}
        for file in self._files():
            try:
                said = _document(file)
            except BadInput as why:
                log.warning("enrolment.trust_skipped why=%s", why)
                continue
            found[file.name] = (*said, file)
        # Of two of one version, the one that is in force comes first; the other is refused then.
        ordered = sorted(found.values(), key=lambda one: (one[0].version, one[1] != latest[1]))
        for at in range(len(ordered)):
            chain = _walk(ordered[at:])
            known = any(said.fingerprint == self._fingerprint for said, _, _ in chain)
            if known and any(raw == latest[1] for _, raw, _ in chain):
                served = {file for _, _, file in chain}
                for _, _, file in ordered:
                    if file not in served:
                        log.warning("enrolment.trust_skipped why=%s: does not follow", file)
                return json.dumps([json.loads(raw) for _, raw, _ in chain]).encode()
        raise BadInput(
            f"{self._latest}: no signatures lead to it from the roots of the configured"
            " fingerprint; keep the earlier versions beside it, as trust-1.json and so on"
        )


def _walk(found: Sequence[tuple[Trust, bytes, Path]]) -> list[tuple[Trust, bytes, Path]]:
    """Accept the first by its own roots, and of the others those that follow; none if it fails."""
    chain: list[tuple[Trust, bytes, Path]] = []
    for one in found:
        said, raw, _ = one
        held = chain[-1][0] if chain else None
        if held is not None and said == held:
            continue
        try:
            # Whether one has expired is for the device to say, by its own clock.
            accept_chain([raw], fingerprint=said.fingerprint, now_s=0, held=held)
        except TrustRefused:
            if not chain:
                return []
            continue
        chain.append(one)
    return chain


def _document(file: Path) -> tuple[Trust, bytes]:
    try:
        raw = file.read_bytes()
        return read_accepted(raw), raw
    except OSError as problem:
        raise BadInput(f"{file}: cannot be read: {problem.strerror}") from None
    except TrustRefused as why:
        raise BadInput(f"{file}: is no trust document: {why}") from None
