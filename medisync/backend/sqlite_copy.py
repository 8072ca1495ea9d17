"""A consistent copy of an SQLite database that is in use.

In a process of its own: a second SQLite library in one that has DuckDB attached to the file would, on closing it, drop
the locks DuckDB holds (https://www.sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from medisync.errors import MediSyncError

SECONDS = 600

COPY = """
import os, sqlite3, sys
os.umask(0o077)
source = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=60)
target = sqlite3.connect(sys.argv[2])
source.backup(target)
target.execute("PRAGMA journal_mode=DELETE")
ok = target.execute("PRAGMA quick_check").fetchone()[0]
target.close()
source.close()
sys.exit(0 if ok == "ok" else f"the copy is damaged: {ok}")
"""


class DatabaseCopyError(MediSyncError):
    """A database could not be copied."""

    code = "database-copy"
    exit_code = 87


CHECK = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=60)
told = connection.execute("PRAGMA quick_check").fetchone()[0]
sys.exit(0 if told == "ok" else told)
"""


def quick_check(path: Path) -> None:
    """SQLite's own check; raises DatabaseCopyError."""
    run(CHECK, path, what=f"read {path.name}")


def copy_database(source: Path, target: Path) -> None:
    """Copy ``source``, as of one moment, to the new file ``target``; raises DatabaseCopyError."""
    run(COPY, source, target, what=f"copy {source.name}")


def run(code: str, *arguments: object, what: str) -> None:
    """Run Python ``code`` that opens a database, in a process that has nothing else open."""
    command = [sys.executable, "-I", "-c", code, *(str(one) for one in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise DatabaseCopyError(f"Could not {what}: {last[0]}")
