"""The raw limit of a drain: SQLite alone, inserting the rows a centre holds into empty day files.

``python -m ketang_bench.raw_insert CENTER_FOLDER NEW_FOLDER`` prints one JSON object.
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

_TOGETHER = 32_000


def main() -> int:
    """Copy every day file's rows; only the writing is timed."""
    center, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True)
    count, spent_s = 0, 0.0
    for path in sorted(center.glob("rows-*.db")):
        source = sqlite3.connect(path)
        schema = source.execute("SELECT sql FROM sqlite_master WHERE name = 'row'").fetchone()[0]
        width = len(source.execute("PRAGMA table_info(row)").fetchall())
        target = sqlite3.connect(folder / path.name, isolation_level=None)
        target.execute("PRAGMA journal_mode = WAL")
        target.execute("PRAGMA synchronous = FULL")
        target.execute(schema)
        insert = f"INSERT INTO row VALUES ({', '.join('?' * width)}) ON CONFLICT DO NOTHING"  # nosec B608  # noqa: S608  (question marks)
        rows = source.execute("SELECT * FROM row ORDER BY device, store, stream, seq")
        while chunk := rows.fetchmany(_TOGETHER):
            began_s = time.perf_counter()
            target.execute("BEGIN IMMEDIATE")
            target.executemany(insert, chunk)
            target.execute("COMMIT")
            spent_s += time.perf_counter() - began_s
            count += len(chunk)
        source.close()
        target.close()
    print(json.dumps({"records_s": count / spent_s, "records": count}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
