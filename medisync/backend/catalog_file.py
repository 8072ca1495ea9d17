"""The newest snapshot, read from a catalog file by a process that has imported next to nothing."""

from __future__ import annotations

import os
import sys
from contextlib import closing


def newest_in_file(catalog: str) -> int | None:
    """None in a process with DuckDB: a second SQLite library would, on closing the file, drop the locks that DuckDB's
    own holds (https://www.sqlite.org/howtocorrupt.html, section 2.2.1)."""
    if "duckdb" in sys.modules or not os.path.exists(catalog):
        return None
    import sqlite3
    from urllib.parse import quote

    try:
        with closing(sqlite3.connect(f"file:{quote(catalog)}?mode=ro", uri=True, timeout=1)) as connection:
            found = connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()
    except sqlite3.Error:
        return None
    return None if found is None or found[0] is None else int(found[0])
