BEGIN TRANSACTION;
CREATE TABLE camera_grant (
  digest TEXT PRIMARY KEY, target TEXT NOT NULL, school TEXT NOT NULL, purpose TEXT NOT NULL,
  holder TEXT NOT NULL, approver TEXT NOT NULL, issued_s INTEGER NOT NULL,
  from_s INTEGER NOT NULL, until_s INTEGER NOT NULL, envelope TEXT NOT NULL,
  taken_by TEXT NOT NULL, taken_ms INTEGER NOT NULL, withdrawn_by TEXT NOT NULL,
  withdrawn_ms INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "camera_grant" VALUES('cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','d0','s1','counting','head','county',1795551047,1795551047,1795637447,'{}','operator',1795551047000,'',0);
CREATE TABLE filing (
  no INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, name TEXT NOT NULL,
  version TEXT NOT NULL, sha256 TEXT NOT NULL, number TEXT NOT NULL, purpose TEXT NOT NULL,
  data TEXT NOT NULL, scope TEXT NOT NULL, state TEXT NOT NULL, submitted_by TEXT NOT NULL,
  submitted_ms INTEGER NOT NULL, reviewed_by TEXT NOT NULL, reviewed_ms INTEGER NOT NULL,
  note TEXT NOT NULL, closed_by TEXT NOT NULL, closed_ms INTEGER NOT NULL,
  approved_by TEXT NOT NULL, approved_ms INTEGER NOT NULL,
  approver TEXT NOT NULL, issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL,
  digest TEXT NOT NULL, envelope TEXT NOT NULL);
INSERT INTO "filing" VALUES(1,'model','counts','1','abababababababababababababababababababababababababababababababab','备2026-1','计人数','camera','lan','submitted','publisher',1795551047000,'',0,'','',0,'',0,'',0,0,'','');
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('version',1);
CREATE INDEX filing_by_state ON filing (state, expires_s);
CREATE INDEX camera_grant_by_school ON camera_grant (school);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('filing',1);
COMMIT;
