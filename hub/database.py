"""The one module that opens SQLite: WAL, foreign keys, migrations, and write transactions.

sqlite-utils is the library; SQL stays visible where it is used.
"""

import getpass
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.errors import HubError, IntegrityError
from hub.sqlite import Database, Migrations

# A writer waits this long for another process's transaction, which are all milliseconds long.
BUSY_TIMEOUT_S = 30.0


def open_database(path: Path, migrations: Migrations, *, any_thread: bool = False) -> Database:
    """Open (or make) a database and bring its schema up to date.

    `any_thread` lifts sqlite3's check for callers that serialise their own access.

    Raises:
        IntegrityError: when the file is not a database of ours.
        HubError: when it cannot be opened or written.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, check_same_thread=not any_thread, isolation_level=None
        )
        db = Database(connection)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        if db.journal_mode != "wal":
            db.enable_wal()
        if migrations.pending(db):
            _migrate(db, migrations)
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            raise IntegrityError(
                f"not a readable SQLite database ({error})",
                where=str(path),
                hint="Restore it from a backup, or move it away and run `hub init`.",
            ) from error
        raise HubError(
            f"the database cannot be opened ({error})",
            where=str(path),
            hint="Check that the folder is there, writable and not full.",
        ) from error
    return db


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """One write transaction: takes the write lock first, so that what it reads stays true.

    sqlite-utils' `atomic` begins deferred: a read followed by a write would then fail with
    "database is locked" when another process wrote in between.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:  # also Ctrl-C: half a transaction is never kept, and nothing is hidden
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _migrate(db: Database, migrations: Migrations) -> None:
    """Apply what is pending, one process at a time.

    Two processes may open a new hub at once; the loser of the lock finds nothing pending.
    """
    with transaction(db):
        migrations.apply(db)


def one(db: Database, sql: str, *values: Any) -> dict[str, Any] | None:
    """The first row of a query, or None."""
    return next(iter(db.query(sql, list(values))), None)


def whoami() -> str:
    """The account's name, for histories; containers may run as a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
