"""The one module that opens SQLite: WAL, foreign keys, migrations, and write transactions.

sqlite-utils is the library; SQL stays visible where it is used.
"""

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub.errors import HubError, IntegrityError
from hub.sqlite import Database, Migrations

# A writer waits this long for another process's transaction, which are all milliseconds long.
BUSY_TIMEOUT_S = 30.0
_PAUSE_S = (0.0002, 0.002)


def open_database(
    path: Path, migrations: Migrations, *, any_thread: bool = False, existing: bool = False
) -> Database:
    """Open (or make) a database and bring its schema up to date.

    `any_thread` lifts sqlite3's check for callers that serialise their own access. With `existing`
    an empty file is no new database but one that lost its contents.

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
        _require_ours(db, path, migrations, existing=existing)
        if db.journal_mode != "wal":
            db.enable_wal()
        if newer := newer_than_known(db, migrations):
            db.close()
            raise HubError(
                f"made by a newer Loom, which knows {', '.join(newer)}",
                where=str(path),
                hint="Upgrade it here: pip install --upgrade lora-loom.",
            )
        if migrations.pending(db):
            _migrate(db, migrations)
    except sqlite3.DatabaseError as error:
        if damage := _damage(path, str(error)):
            raise IntegrityError(
                damage,
                where=str(path),
                hint="Restore it from a backup (`hub restore FILE --force`), or move it away and"
                " run `hub init`.",
            ) from error
        raise HubError(
            f"the database cannot be opened ({error})",
            where=str(path),
            hint="Check that the folder is there, writable and not full.",
        ) from error
    return db


@contextmanager
def transaction(db: Database, *, wait_s: float | None = None) -> Iterator[None]:
    """One write transaction: takes the write lock first, so that what it reads stays true.

    sqlite-utils' `atomic` begins deferred: a read followed by a write would then fail with
    "database is locked" when another process wrote in between. One inside another is part of it:
    all of it is kept, or none.

    Raises:
        HubError: when another process has held the lock for `wait_s` (BUSY_TIMEOUT_S).
    """
    if db.conn.in_transaction:
        yield
        return
    _begin(db, BUSY_TIMEOUT_S if wait_s is None else wait_s)
    try:
        yield
    except BaseException:  # also Ctrl-C: half a transaction is never kept, and nothing is hidden
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _begin(db: Database, wait_s: float) -> None:
    """Take the write lock, waiting for whoever has it.

    SQLite's own waiting looks again after pauses that grow to 100 ms, so that beside a busy writer
    another waits for seconds. Short pauses of random length give everybody a turn.

    Raises:
        HubError: when somebody has held it for `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    db.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise HubError(
                        f"another program has been writing for {wait_s:g} s",
                        hint="Try again. If it stays so, look for a process that hangs.",
                    ) from error
            time.sleep(random.uniform(*_PAUSE_S))
    finally:
        db.execute(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT_S:.0f}")


def snapshot(db: Database, path: Path) -> None:
    """Copy one moment of a database in use into a new file, without a write-ahead log beside it."""
    with contextlib.closing(sqlite3.connect(path)) as copy:
        db.conn.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")


def open_snapshot(path: Path) -> Database:
    """A snapshot, as it is: neither migrated nor written."""
    return Database(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True))


def replace_contents(live: Database, snapshot: Path) -> None:
    """Give a database in use the contents of a snapshot, in one transaction.

    Other processes keep their connections, and see a new `data_version`.
    """
    with contextlib.closing(sqlite3.connect(snapshot)) as source:
        source.backup(live.conn)


def newer_than_known(db: Database, migrations: Migrations) -> list[str]:
    """The migrations that this database has had and this program does not know."""
    empty = Database(memory=True)
    known = {step.name for step in migrations.pending(empty)}
    empty.close()
    return [step.name for step in migrations.applied(db) if step.name not in known]


def _require_ours(db: Database, path: Path, migrations: Migrations, *, existing: bool) -> None:
    """Nothing is written into another program's file, nor into one that was emptied."""
    if migrations.applied(db):
        return
    tables = db.table_names()
    if tables or existing:
        db.close()
        what = f"another program's, with {', '.join(tables[:3])}" if tables else "empty"
        raise IntegrityError(
            f"not a hub's database: it is {what}",
            where=str(path),
            hint="Restore it from a backup (`hub restore FILE --force`), or move it away.",
        )


def _damage(path: Path, words: str) -> str | None:
    """What SQLite's words say is wrong with the file; None when it is what lies around it."""
    if "not a database" in words or "malformed" in words:
        return f"not a readable SQLite database ({words})"
    if words.startswith("no such "):
        return f"a damaged database: it has {words.replace('no such', 'no', 1)}"
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.is_dir():
            return f"a damaged database: {beside} is a folder"
    return None


def missing_tables(db: Database, migrations: Migrations) -> list[str]:
    """The tables that a database brought up to date should have, and lacks."""
    whole = Database(memory=True)
    migrations.apply(whole)
    lost = sorted({*whole.table_names()} - {*db.table_names()})
    whole.close()
    return lost


def _migrate(db: Database, migrations: Migrations) -> None:
    """Apply what is pending, one process at a time.

    Two processes may open a new hub at once; the loser of the lock finds nothing pending.
    """
    with transaction(db):
        migrations.apply(db)


def one(db: Database, sql: str, *values: Any) -> dict[str, Any] | None:
    """The first row of a query, or None."""
    return next(iter(db.query(sql, list(values))), None)
