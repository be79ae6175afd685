"""Signed documents as they came: layers, releases, and where each device stands.

What was signed never changes, and one place in a line of versions has one content.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ketang_center.rollouts.rows import Rows
from ketang_center.rollouts.values import Placed, Release, Signed
from ketang_contract import config
from ketang_contract.config import Level
from ketang_contract.layers import LayerAt, Step
from ketang_contract.records import to_json

CHANGES = "changes"
"""A number that grows when a device may have to get another bundle: it is looked at then."""
RESTORED = "restored from a backup"
"""How the reason of a rollout begins that was paused since the centre was put back."""
_LAYER = (
    "digest, target, level, key_epoch, version, release, undoes, content, issued_s, expires_s,"
    " envelope"
)
_RELEASE = """
SELECT r.name, r.layer, r.undo, r.widens, r.holders, r.admitted_by, r.admitted_ms, l.target,
  l.level, l.key_epoch, l.version, u.version, l.expires_s, l.content, u.content
FROM release r JOIN layer l ON l.digest = r.layer JOIN layer u ON u.digest = r.undo
"""


class DocumentBook:
    """``with DocumentBook(path) as book``. Any thread; several processes."""

    def __init__(self, path: Path) -> None:
        self.rows = Rows(path)

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

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable when it ends; joins the one that this thread has open."""
        return self.rows.transaction()

    def is_held(self) -> bool:
        """Tell whether nothing is to be sent to anybody: a restore waits for a person's look.

        For as long as a rollout is paused for it: what a device that was away is to have may have
        been taken back since the backup.
        """
        return bool(
            self.rows.number(
                "SELECT count(*) FROM rollout WHERE state = 'paused' AND reason LIKE ?",
                f"{RESTORED}%",
            )
        )

    def last_ms(self) -> int:
        """Return when this book was last written, as far as its rows tell, UTC ms; 0: never."""
        return self.rows.number(
            "SELECT max((SELECT coalesce(max(at_ms), 0) FROM event),"
            " (SELECT coalesce(max(at_ms), 0) FROM report))"
        )

    def add_layer(self, one: Signed) -> None:
        """Keep a layer; of one that is kept already, the envelope with more signatures."""
        self.rows.run(
            f"INSERT OR REPLACE INTO layer ({_LAYER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # nosec B608  # noqa: S608  (text of ours)
            one.digest,
            one.target,
            one.level.value,
            one.key_epoch,
            one.version,
            one.release,
            one.undoes,
            json.dumps(to_json(one.content)),
            one.issued_s,
            one.expires_s,
            one.envelope,
        )

    def layer(self, digest: str) -> Signed | None:
        """Return one layer."""
        return next(iter(self._layers("WHERE digest = ?", digest)), None)

    def layers_of(self, target: str) -> list[Signed]:
        """Return every layer of a target that came here, the newest first."""
        return self._layers("WHERE target = ? ORDER BY key_epoch DESC, version DESC", target)

    def _layers(self, rest: str, *values: str) -> list[Signed]:
        found = self.rows.table(f"SELECT {_LAYER} FROM layer {rest}", *values)  # nosec B608  # noqa: S608  (text of ours)
        return [
            Signed(
                digest=row[0],
                target=row[1],
                level=Level(row[2]),
                key_epoch=row[3],
                version=row[4],
                release=row[5],
                undoes=row[6],
                content=config.from_json(json.loads(row[7])),
                issued_s=row[8],
                expires_s=row[9],
                envelope=bytes(row[10]),
            )
            for row in found
        ]

    def add_release(self, one: Release) -> None:
        """Keep a release, after its two layers; or what more is known of who signed it."""
        self.rows.run(
            "INSERT OR REPLACE INTO release VALUES (?, ?, ?, ?, ?, ?, ?)",
            one.name,
            one.layer,
            one.undo,
            json.dumps(one.widens),
            json.dumps(one.holders, ensure_ascii=False),
            one.admitted_by,
            one.admitted_ms,
        )

    def release(self, name: str) -> Release | None:
        """Return one release."""
        return next(iter(self._releases("WHERE r.name = ?", name)), None)

    def releases(self) -> list[Release]:
        """Return every release that was admitted, the newest first."""
        return self._releases("ORDER BY r.admitted_ms DESC, r.name")

    def _releases(self, rest: str, *values: str) -> list[Release]:
        return [_release(row) for row in self.rows.table(_RELEASE + rest, *values)]

    def place(self, one: Placed) -> None:
        """Keep a device's newest placement."""
        with self.transaction():
            self.rows.raise_mark(CHANGES)
            self.rows.run(
                "INSERT OR REPLACE INTO placed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                one.device,
                one.key_epoch,
                one.version,
                one.digest,
                json.dumps(to_json(one.path)),
                json.dumps(to_json(one.least)),
                one.expires_s,
                one.envelope,
            )
            self.rows.run("DELETE FROM step WHERE device = ?", one.device)
            self.rows.run_many(
                "INSERT INTO step VALUES (?, ?)", [(unit, one.device) for unit in one.targets]
            )

    def placed(self, device: str) -> Placed | None:
        """Return where a device stands, as it was signed."""
        found = self.rows.table("SELECT * FROM placed WHERE device = ?", device)
        return _placed(found[0]) if found else None

    def all_placed(self) -> dict[str, Placed]:
        """Return every device's placement."""
        return {row[0]: _placed(row) for row in self.rows.table("SELECT * FROM placed")}

    def below(self, target: str) -> list[str]:
        """Return the devices whose signed way leads through a unit, or that are the target."""
        found = self.rows.table("SELECT device FROM step WHERE unit = ? ORDER BY device", target)
        return [row[0] for row in found]


def _release(row: Sequence[Any]) -> Release:
    return Release(
        name=row[0],
        layer=row[1],
        undo=row[2],
        widens=tuple(json.loads(row[3])),
        holders=tuple(json.loads(row[4])),
        admitted_by=row[5],
        admitted_ms=row[6],
        target=row[7],
        level=Level(row[8]),
        key_epoch=row[9],
        version=row[10],
        undo_version=row[11],
        expires_s=row[12],
        content=config.from_json(json.loads(row[13])),
        before=config.from_json(json.loads(row[14])),
    )


def _placed(row: Sequence[Any]) -> Placed:
    return Placed(
        device=row[0],
        key_epoch=row[1],
        version=row[2],
        digest=row[3],
        path=tuple(Step(level=Level(one["level"]), unit=one["unit"]) for one in json.loads(row[4])),
        least=tuple(LayerAt(**one) for one in json.loads(row[5])),
        expires_s=row[6],
        envelope=bytes(row[7]),
    )
