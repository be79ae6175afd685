"""The file of the rollouts' book: its tables. What people read as history only grows."""

from pathlib import Path

from ketang_center.rows_file import RowsFile, Shape

_TABLES = """
CREATE TABLE IF NOT EXISTS layer (
  digest TEXT PRIMARY KEY, target TEXT NOT NULL, level TEXT NOT NULL, key_epoch INTEGER NOT NULL,
  version INTEGER NOT NULL, release TEXT NOT NULL, undoes INTEGER, content TEXT NOT NULL,
  issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL, envelope BLOB NOT NULL,
  UNIQUE (target, key_epoch, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS release (
  name TEXT PRIMARY KEY, layer TEXT NOT NULL REFERENCES layer (digest),
  undo TEXT NOT NULL REFERENCES layer (digest), widens TEXT NOT NULL, holders TEXT NOT NULL,
  admitted_by TEXT NOT NULL, admitted_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS placed (
  device TEXT PRIMARY KEY, key_epoch INTEGER NOT NULL, version INTEGER NOT NULL,
  digest TEXT NOT NULL, path TEXT NOT NULL, least TEXT NOT NULL, expires_s INTEGER NOT NULL,
  envelope BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
  unit TEXT, device TEXT, PRIMARY KEY (unit, device)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS step_by_device ON step (device);
CREATE TABLE IF NOT EXISTS rollout (
  no INTEGER PRIMARY KEY AUTOINCREMENT, release TEXT NOT NULL, layer TEXT NOT NULL,
  target TEXT NOT NULL, what TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  rules TEXT NOT NULL, began_by TEXT NOT NULL, began_ms INTEGER NOT NULL,
  approved_by TEXT NOT NULL, approved_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS rollout_by_target ON rollout (target, no);
CREATE TABLE IF NOT EXISTS member (
  rollout INTEGER, device TEXT, kind TEXT NOT NULL, school TEXT NOT NULL,
  position INTEGER NOT NULL, grp INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  attempt INTEGER NOT NULL, sent_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
  excused INTEGER NOT NULL, hash TEXT NOT NULL, cohort INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (rollout, device)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS member_by_device ON member (device, rollout);
CREATE INDEX IF NOT EXISTS member_by_state ON member (rollout, state);
CREATE TABLE IF NOT EXISTS turn (
  device TEXT, target TEXT, layer TEXT NOT NULL, PRIMARY KEY (device, target)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS turn_by_target ON turn (target, layer);
CREATE TABLE IF NOT EXISTS ground (target TEXT PRIMARY KEY, layer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS had (
  device TEXT PRIMARY KEY, hash TEXT NOT NULL, stamp TEXT NOT NULL, attempt INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL, trust_version INTEGER NOT NULL,
  out INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (
  device TEXT PRIMARY KEY, body TEXT NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
  no INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, rollout INTEGER NOT NULL,
  who TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_by_rollout ON event (rollout, no);
CREATE TRIGGER IF NOT EXISTS event_keeps BEFORE UPDATE ON event
  BEGIN SELECT raise(ABORT, 'history only grows'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE DELETE ON event
  BEGIN SELECT raise(ABORT, 'history only grows'); END;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
"""``turn``: the layer a device is to have of a target since its turn came. ``ground``: the one it
has until then. ``had``: what it was sent last; ``out``: the broker has it. ``step``: a placement's
way, by unit."""
_STEPS = (
    """
    ALTER TABLE member ADD COLUMN cohort INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE had ADD COLUMN out INTEGER NOT NULL DEFAULT 0;
    """,
)
_SHAPE = Shape(_TABLES, _STEPS)


class Rows(RowsFile):
    """One connection behind one lock; any thread, several processes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SHAPE)
