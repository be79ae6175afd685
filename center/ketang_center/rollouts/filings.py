"""The register of filings (备案) and camera grants: what is filed, and what devices are brought.

Reads alone; what people do to it is the ``filing_desk``'s. Whatever stands here as approved has
passed the judgement that a device makes, but a device makes its own: this file is no authority.
"""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_center.rollouts.filing_rows import FilingRows
from ketang_center.rollouts.filing_values import FilingEntry, FilingState, GrantEntry
from ketang_contract import strict_json
from ketang_contract.config import Config
from ketang_contract.layers import MAX_PERMITS, Step
from ketang_contract.permits import SOON_S, Subject

MOST_LISTED = 2_000
MOST_GRANTS = 20_000


class Filings:
    """``with Filings(path, clock_ms) as filings``. Any thread; several processes."""

    def __init__(self, path: Path, clock_ms: Callable[[], int]) -> None:
        self.rows = FilingRows(path)
        self._clock_ms = clock_ms

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.rows.close()

    # What devices are brought.

    def permits_for(self, device: str, path: Sequence[Step]) -> tuple[bytes, ...]:
        """Return the envelopes a device is brought: grants on its way, then filings of models.

        Documents that end others early are among them. What is more than a bundle holds is left
        out, that which ends first before the rest.

        Args:
            device: its id.
            path: of its placement, from the region down.
        """
        now_s = self._clock_ms() // 1000
        units = [one.unit for one in path]
        places = [*units, device]
        grants = self.rows.read(
            GrantEntry,
            f"WHERE withdrawn_ms = 0 AND target IN ({_marks(places)}) AND (until_s > ? OR until_s ="
            " from_s) ORDER BY until_s DESC, digest",
            *places,
            now_s,
        )
        filed = self.rows.read(
            FilingEntry,
            f"WHERE state = 'approved' AND subject = 'model' AND scope IN ({_marks(units)})"
            " AND (expires_s > ? OR expires_s = issued_s) ORDER BY expires_s DESC, digest",
            *units,
            now_s,
        )
        found = [*(one.envelope for one in grants), *(one.envelope for one in filed)]
        return tuple(strict_json.canonical(json.loads(one)) for one in found[:MAX_PERMITS])

    def refusal_of(self, config: Config, now_s: int, scope: Collection[str] = ()) -> str:
        """Say what a configuration needs that is not filed; empty when all of it is.

        Args:
            config: a layer's content, or a merged one.
            now_s: the moment, UTC seconds.
            scope: the target of the layer and every unit above it; empty: filings of any unit.
        """
        wanted = config.model
        if wanted is None:
            return ""
        filed = [
            one
            for one in self.same(Subject.MODEL, wanted.name, wanted.version)
            if one.approved_ms and (not scope or one.scope in scope)
        ]
        named = f"model {wanted.name} {wanted.version} (sha256 {wanted.sha256[:12]}…)"
        own = [one for one in filed if one.sha256 == wanted.sha256]
        if any(
            one.state_at(now_s) is FilingState.APPROVED and one.issued_s <= now_s for one in own
        ):
            return ""
        if own:
            return f"{named}: its filing has ended; renew it: ketang filing submit"
        if filed:
            return f"{named}: filed with another file's hash"
        return f"{named}: no filing in force; file it: ketang filing submit"

    def version(self) -> int:
        """Return a number that grows when an act changes what ``permits_for`` may answer."""
        return self.rows.version()

    # Lists.

    def filing(self, no: int) -> FilingEntry | None:
        """Return a filing by its number."""
        found = self.rows.read(FilingEntry, "WHERE no = ?", no)
        return found[0] if found else None

    def filings(self) -> list[FilingEntry]:
        """Return the filings, the newest first."""
        return self.rows.read(FilingEntry, "ORDER BY no DESC LIMIT ?", MOST_LISTED)

    def same(self, subject: str, name: str, version: str) -> list[FilingEntry]:
        """Return every filing of one subject, in any state and for any unit, the newest first."""
        return self.rows.read(
            FilingEntry,
            "WHERE subject = ? AND name = ? AND version = ? ORDER BY no DESC",
            subject,
            name,
            version,
        )

    def in_state(self, *states: FilingState) -> list[FilingEntry]:
        """Return every filing in these states; of approved ones, those that have ended, too."""
        return self.rows.read(
            FilingEntry, f"WHERE state IN ({_marks(states)}) ORDER BY no", *states
        )

    def expiring(self, now_s: float) -> list[FilingEntry]:
        """Return the approved filings that end within 30 days, the first to end first."""
        return self.rows.read(
            FilingEntry,
            "WHERE state = 'approved' AND expires_s > ? AND expires_s <= ? ORDER BY expires_s, no",
            int(now_s),
            int(now_s) + SOON_S,
        )

    def grants(self, schools: Collection[str]) -> list[GrantEntry]:
        """Return these schools' grants, as ``all_grants`` orders them."""
        return [one for one in self.all_grants() if one.school in schools]

    def all_grants(self) -> list[GrantEntry]:
        """Return every grant, the latest to end first; those that were withdrawn last."""
        return self.rows.read(
            GrantEntry, "ORDER BY withdrawn_ms > 0, until_s DESC, digest LIMIT ?", MOST_GRANTS
        )

    def grant(self, digest: str) -> GrantEntry | None:
        """Return a grant by the digest of its document."""
        found = self.rows.read(GrantEntry, "WHERE digest = ?", digest)
        return found[0] if found else None


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
