BEGIN TRANSACTION;
CREATE TABLE asset (
  device TEXT NOT NULL UNIQUE, school TEXT, asset TEXT, room TEXT NOT NULL, kind TEXT NOT NULL,
  serial TEXT NOT NULL, claimed_ms INTEGER, PRIMARY KEY (school, asset)) WITHOUT ROWID;
INSERT INTO "asset" VALUES('d0','s1','a-1','s1-r1','ops_pc','x1',1795551047000);
CREATE TABLE barred (
  device TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL)
  WITHOUT ROWID;
INSERT INTO "barred" VALUES('d0',1795551047001,'stolen','operator');
CREATE TABLE came (no INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL UNIQUE);
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY, device TEXT NOT NULL, key_id TEXT NOT NULL, pem TEXT NOT NULL,
  from_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, revoked_ms INTEGER,
  parent TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE code (
  id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, school TEXT NOT NULL,
  uses INTEGER NOT NULL, used INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
  made_ms INTEGER NOT NULL, made_by TEXT NOT NULL, withdrawn INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (no INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
INSERT INTO "journal" VALUES(1,'{"table": "asset", "row": ["d0", "s1", "a-1", "s1-r1", "ops_pc", "x1", null]}');
INSERT INTO "journal" VALUES(2,'{"table": "asset", "row": ["d0", "s1", "a-1", "s1-r1", "ops_pc", "x1", 1795551047000]}');
INSERT INTO "journal" VALUES(3,'{"table": "barred", "row": ["d0", 1795551047001, "stolen", "operator"]}');
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE waiting (
  no INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL UNIQUE, school TEXT NOT NULL,
  code_id TEXT NOT NULL, serial TEXT NOT NULL, asset TEXT NOT NULL, source TEXT NOT NULL,
  reason TEXT NOT NULL, asked_ms INTEGER NOT NULL, device TEXT NOT NULL, verdict TEXT NOT NULL);
CREATE INDEX asset_by_serial ON asset (serial);
CREATE INDEX certificate_by_device ON certificate (device);
CREATE INDEX certificate_by_key ON certificate (key_id);
CREATE INDEX certificate_revoked ON certificate (serial)
  WHERE revoked_ms IS NOT NULL;
CREATE INDEX certificate_by_parent ON certificate (parent);
CREATE TRIGGER barred_stays BEFORE DELETE ON barred
  BEGIN SELECT raise(ABORT, 'a bar is for ever'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('journal',3);
COMMIT;
