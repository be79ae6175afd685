"""Filings and camera grants on the device, held against the clock until each one's end.

Invariants:
- What has ended once by the clock stays ended, whatever the clock says later. What only a signature
  says is over is not permitted either, but comes back where that was from the future.
- Time only runs forward here: a clock that is set back does not stop a permit from ending, across
  restarts too. One that somebody disciplines (NTP) may put an earlier, undisciplined one right, and
  a signature from the future that was believed meanwhile.
- Without a moment, or with a damaged file, nothing is permitted.

Standard library only: the supervisor holds a ``PermitBook``. The child judges, ``permits_judging``.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ketang_agent.enrol.files import write_private
from ketang_agent.remote.signed_time import AHEAD_S
from ketang_contract.config import ModelChoice
from ketang_contract.permits import (
    No,
    Permit,
    PermitKind,
    Permits,
    Subject,
    Yes,
    permit_from_json,
)
from ketang_contract.records import to_json

log = logging.getLogger("ketang.permits")

MOST_REMEMBERED = 256
"""Ended documents, and lines with the latest of theirs: some ten bundles' worth."""
_SAVE_S = 600.0
"""How much of what the clocks have shown a loss of power may take back."""


@dataclass(frozen=True, slots=True)
class PermitSigns:
    """What a device tells of its permits: each stands for a fault."""

    filing_expiring: bool = False
    filing_expired: bool = False
    grant_expired: bool = False


class PermitBook:
    """One thread: the supervisor's. ``file`` is private, and written whole or not at all."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._permits: tuple[Permit, ...] = ()
        self._ended: dict[str, None] = {}
        self._latest: dict[str, int] = {}
        self._floor_s = 0
        self._seen_s = self._shown_s = 0.0
        self._ticked = self._unsaved = self._synced = False
        self._boot_s = self._saved_s = 0.0
        self._told: frozenset[str] = frozenset()
        try:
            said = json.loads(file.read_bytes())
            self._load(said)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            self._permits = ()
            log.warning("permits.unreadable why=%s", problem)

    def replace(self, permits: Iterable[Permit]) -> None:
        """Hold what the child made of the latest accepted bundle, and nothing else.

        A document that came before and is left out now permits nothing any more.
        """
        held = tuple(permits)
        if held != self._permits:
            self._permits, self._unsaved = held, True
            self._settle()

    def tick(self, now_s: float, boot_s: float, *, floor_s: int = 0, synced: bool = False) -> None:
        """Let time pass; often.

        Args:
            now_s: the device's clock, UTC seconds.
            boot_s: a clock that runs on evenly and nobody sets; of one boot.
            floor_s: the latest signed time that was accepted.
            synced: somebody disciplines the device's clock.
        """
        ran_s = max(0.0, boot_s - self._boot_s) if self._ticked else 0.0
        shown_s = max(now_s, float(self._floor_s))
        moment_s = max(shown_s, float(floor_s))
        if synced:
            self._floor_s, shown_s = int(moment_s), moment_s
        else:
            shown_s = max(shown_s, self._shown_s + ran_s)
            moment_s = max(moment_s, self._seen_s + ran_s)
        self._shown_s, self._seen_s = shown_s, moment_s
        self._boot_s, self._ticked = boot_s, True
        self._synced = synced
        self._settle()
        moved = self._permits and abs(moment_s - self._saved_s) >= _SAVE_S
        if self._unsaved or moved:
            self._save()

    def model(self, name: str, version: str, sha256: str) -> Yes | No:
        """Tell whether this model may run on a live source now."""
        if not self._ticked:
            return No("no_time")
        found = self._in_force().model(name, version, sha256, self._seen_s)
        own = f"{PermitKind.FILING}|{Subject.MODEL}|{name}|{version}|{sha256}|"
        if isinstance(found, No) and any(line.startswith(own) for line in self._latest):
            return No("filing_expired")  # the centre does not bring an ended one any more
        return found

    def camera(self) -> Yes | No:
        """Tell whether the camera may be opened now."""
        if not self._ticked:
            return No("no_time")
        found = self._in_force().camera(self._seen_s)
        granted = any(line.startswith(f"{PermitKind.GRANT}|") for line in self._latest)
        return No("grant_expired") if found == No("no_grant") and granted else found

    def expiring(self) -> tuple[Permit, ...]:
        """Return what ends within 30 days, with nothing in its place."""
        return self._in_force().expiring(self._seen_s) if self._ticked else ()

    def signs(self, wanted: ModelChoice | None, *, camera: bool) -> PermitSigns:
        """Tell what is amiss with what this device is to do.

        Args:
            wanted: the model it is to run; None: none.
            camera: it is to look through a camera.
        """
        if not self._ticked:
            return PermitSigns()
        model: Yes | No = No("")
        ends: set[str] = set()
        if wanted is not None:
            model = self.model(wanted.name, wanted.version, wanted.sha256)
            ends = {one.digest for one in self.expiring()}
        return PermitSigns(
            filing_expiring=isinstance(model, Yes) and model.permit.digest in ends,
            filing_expired=model == No("filing_expired"),
            grant_expired=camera and self.camera() == No("grant_expired"),
        )

    def _in_force(self) -> Permits:
        """What is held, with those ended for good marked as such, and no older one in a line."""
        return Permits(tuple(self._as_it_is(one) for one in self._permits))

    def _as_it_is(self, one: Permit) -> Permit:
        older = one.issued_s < self._latest.get(one.line, 0)
        if not older and one.digest not in self._ended:
            return one
        return replace(one, until_s=one.from_s)

    def _settle(self) -> None:
        """Remember what has ended, and how far each line has come."""
        if not self._ticked:
            return
        if any(self._is_ahead(issued_s) for issued_s in self._latest.values()):
            self._latest = {
                line: issued_s
                for line, issued_s in self._latest.items()
                if not self._is_ahead(issued_s)
            }
            self._unsaved = True
        for one in self._permits:
            if one.until_s <= self._shown_s and one.digest not in self._ended:
                self._ended[one.digest] = None
                self._unsaved = True
            begun = one.from_s <= self._seen_s and not self._is_ahead(one.issued_s)
            if begun and self._latest.get(one.line, 0) < one.issued_s:
                self._latest.pop(one.line, None)
                self._latest[one.line] = one.issued_s
                self._unsaved = True
        held = {one.digest for one in self._permits}, {one.line for one in self._permits}
        self._ended = _trimmed(self._ended, held[0])
        self._latest = _trimmed(self._latest, held[1])

    def _is_ahead(self, issued_s: int) -> bool:
        """Whether something was signed in the future: then it must not end what is signed today."""
        return self._synced and issued_s > self._seen_s + AHEAD_S

    def _load(self, said: dict[str, Any]) -> None:
        permits = tuple(permit_from_json(one) for one in said["permits"])
        self._ended = {str(one): None for one in said["ended"]}
        self._latest = {str(line): int(at_s) for line, at_s in said["latest"].items()}
        # An earlier release kept one floor, confirmed or not: a disciplined clock puts it right.
        self._floor_s = int(said.get("confirmed_s", 0))
        self._seen_s = self._saved_s = max(float(said["seen_s"]), float(said["floor_s"]))
        self._shown_s = float(said.get("shown_s", said["seen_s"]))
        self._permits = permits

    def _save(self) -> None:
        said = {
            "permits": [to_json(one) for one in self._permits],
            "ended": list(self._ended),
            "latest": self._latest,
            "floor_s": self._floor_s,
            "confirmed_s": self._floor_s,
            "seen_s": self._seen_s,
            "shown_s": self._shown_s,
        }
        problem = ""
        try:
            write_private(self._file, json.dumps(said).encode())
        except OSError as why:
            problem = str(why)  # what is held in memory goes on; tried again at the next tick
        else:
            self._unsaved, self._saved_s = False, self._seen_s
        if problem and problem not in self._told:
            log.warning("permits.not_saved why=%s", problem)
        self._told = frozenset({problem} - {""})


def _trimmed(of: dict[str, Any], held: set[str]) -> dict[str, Any]:
    """Forget the oldest that nothing held needs, down to the most there may be."""
    spare = [name for name in of if name not in held]
    gone = set(spare[: max(0, len(of) - MOST_REMEMBERED)])
    return {name: value for name, value in of.items() if name not in gone} if gone else of
