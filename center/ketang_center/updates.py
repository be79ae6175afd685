"""The update repository at the centre: handed out over the enrolment service, and kept fresh.

Public and signed, so that whoever asks may have it: no cookie, no log, no list of what is there.
Devices fetch by parts, since no connection here lasts longer than a minute.
"""

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from ketang_center.warden import Duty
from ketang_contract.errors import BadInput
from ketang_contract.updates import is_served
from ketang_provisioning import updates, updates_online

UPDATES = "updates"
"""Where the repository lies in the centre's data folder."""
_ROUTE = "/updates/{path:path}"
_EVERY_S = 60.0
_TOLD_BEFORE = timedelta(days=21)
_FOREVER = "public, max-age=31536000, immutable"
_NOT_FOUND, _BAD_RANGE, _MUCH = 404, 400, 64
_CHUNK_BYTES = 64 << 10


class _Part(FileResponse):
    """A file, whole or one part of it: a hundred parts in one answer serve nobody."""

    max_ranges = 1
    chunk_size = _CHUNK_BYTES


def serve_updates(app: FastAPI, folder: Path | None, headers: Mapping[str, str]) -> None:
    """Hand out a repository's files under ``/updates/``, and nothing else.

    Args:
        app: the enrolment service.
        folder: the repository; it need not be there yet. None: nothing is handed out.
        headers: what every answer of the service carries.
    """
    if folder is None:
        return

    # Not in the service's own description: what lies here is TUF's to describe.
    @app.get(_ROUTE, include_in_schema=False)
    async def repository_file(path: str, request: Request) -> Response:
        """Give one file of the repository, or a part of it."""
        if len(request.headers.get("range", "")) > _MUCH:
            return Response(status_code=_BAD_RANGE, headers=dict(headers))
        found = await run_in_threadpool(_look, folder, path)
        if found is None:
            raise HTTPException(_NOT_FOUND)
        dressed = dict(headers) | {"ETag": _mark(path, found)}
        if not path.endswith("/timestamp.json"):
            dressed["Cache-Control"] = _FOREVER  # the name changes with the content
        kind = "application/json" if path.endswith(".json") else "application/octet-stream"
        return _Part(folder / path, headers=dressed, media_type=kind, stat_result=found)


def duty(folder: Path, keys: Path) -> Duty:
    """Make the warden's round: confirm the list in force, and take up a newer one.

    Args:
        folder: the repository, ``UPDATES`` in the data folder; nothing is done while it is missing.
        keys: the folder that holds the centre's two update keys.
    """

    def keep(at_ms: int) -> None:
        if (folder / "metadata").is_dir():
            now = datetime.fromtimestamp(at_ms / 1000, UTC)
            updates_online.refresh(folder, updates_online.load_keys(keys), now)
            _tell_ending(folder, now)

    return Duty("updates", _EVERY_S, keep)


def _tell_ending(folder: Path, now: datetime) -> None:
    """Say in time what only a person with an off-line key can sign again.

    Raises:
        BadInput: what ends when; the warden tells it once.
    """
    ends = {
        "root": updates.roots(folder)[-1].signed.expires,
        "list of targets": updates.listing(folder).signed.expires,
    }
    name, soonest = min(ends.items(), key=lambda one: one[1])
    if soonest - now < _TOLD_BEFORE:
        raise BadInput(f"{name}: ends on {soonest:%Y-%m-%d}; no device updates after that")


def _look(folder: Path, path: str) -> os.stat_result | None:
    """Return what is known of a file; None where there is none that may be handed out."""
    if not is_served(path):
        return None
    try:
        found = (folder / path).lstat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _mark(path: str, found: os.stat_result) -> str:
    """Make the ETag: a target's name holds its hash, metadata is told apart by its time."""
    name = path.rpartition("/")[2]
    if path.startswith("targets/"):
        return f'"{name.partition(".")[0]}"'
    return f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
