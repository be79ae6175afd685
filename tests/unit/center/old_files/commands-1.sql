BEGIN TRANSACTION;
CREATE TABLE job (
  job TEXT PRIMARY KEY, device TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL,
  unit TEXT NOT NULL, countdown_s INTEGER, asked_ms INTEGER NOT NULL, state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '',
  expires_ms INTEGER NOT NULL DEFAULT 0, said_ms INTEGER NOT NULL DEFAULT 0,
  changed_ms INTEGER NOT NULL, envelope BLOB) WITHOUT ROWID;
INSERT INTO "job" VALUES('j-1','d0','read_inventory','operator','s1',NULL,1795551047000,'done','','',1795551107000,1795551047005,1795551047009,X'7B7D');
CREATE INDEX job_by_state ON job (state, asked_ms);
CREATE INDEX job_of_device ON job (device, asked_ms);
COMMIT;
