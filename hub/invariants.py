"""What must hold inside registry.db, checked one by one: `hub doctor` asks.

Most of it the schema itself enforces (keys, triggers); it is checked all the same, because another
program, a bad disk or a half-copied file knows no triggers.

Every check yields what is broken; a name under which nothing was yielded holds.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from hub.database import newer_than_known
from hub.errors import InvalidData
from hub.facts import Finding
from hub.manifest import Manifest
from hub.migrations import registry_migrations
from hub.names import PRODUCTION
from hub.sqlite import Database

_RESTORE = "Restore a backup: `hub restore FILE --force`."
# How many broken things a finding names; the rest are counted.
_NAMED = 5
_Check = Callable[[Database], Iterator[tuple[str, str]]]


def check_database(db: Database) -> list[Finding]:
    """Every invariant in its order. What can't be read leaves the checks after it out."""
    findings = []
    try:
        # One snapshot: what others commit meanwhile is not half seen.
        db.execute("BEGIN")
        for name, holds, check in _CHECKS:
            findings.append(finding(name, list(check(db)), holds))
            if name == "database" and findings[-1].state == "broken":
                break
    except sqlite3.DatabaseError as error:
        findings.append(Finding("database", "broken", f"can't be read ({error})", _RESTORE))
    finally:
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
    return findings


def finding(
    name: str, problems: list[tuple[str, str]], holds: str, state: str = "broken"
) -> Finding:
    """One line for a check: `problems` are messages, each with how to mend it."""
    if not problems:
        return Finding(name, "ok", holds)
    shown = "; ".join(message for message, _ in problems[:_NAMED])
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    mends = list(dict.fromkeys(mend for _, mend in problems[:_NAMED] if mend))
    return Finding(name, state, shown + more, " ".join(mends))


def _integrity(db: Database) -> Iterator[tuple[str, str]]:
    for row in db.query("PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            yield str(row["integrity_check"]), _RESTORE


def _foreign_keys(db: Database) -> Iterator[tuple[str, str]]:
    for row in db.query("PRAGMA foreign_key_check"):
        what = f"row {row['rowid']} of {row['table']}"
        yield f"{what} names a row of {row['parent']} that is not there", _RESTORE


def _schema(db: Database) -> Iterator[tuple[str, str]]:
    if newer := newer_than_known(db, registry_migrations):
        yield f"made by a newer Loom ({', '.join(newer)})", "Upgrade lora-loom."
        return
    with_all = Database(memory=True)
    registry_migrations.apply(with_all)
    expected, found = _objects(with_all), _objects(db)
    with_all.close()
    for name, sql in expected.items():
        if name not in found:
            yield f"{name} is missing", _RESTORE
        elif found[name] != sql:
            yield f"{name} has been changed", _RESTORE


def _objects(db: Database) -> dict[str, str]:
    """Every table, index and trigger of ours, with its SQL on one line."""
    rows = db.query(
        "SELECT type || ' ' || name AS what, sql FROM sqlite_master"
        " WHERE sql IS NOT NULL AND tbl_name NOT LIKE '\\_sqlite%' ESCAPE '\\'"
    )
    return {row["what"]: " ".join(row["sql"].split()) for row in rows}


def _manifests(db: Database) -> Iterator[tuple[str, str]]:
    files: dict[int, set[tuple[str, str, int]]] = {}
    for row in db.query("SELECT * FROM version_files"):
        files.setdefault(row["version_id"], set()).add((row["path"], row["sha256"], row["size"]))
    for row in db.query(
        "SELECT versions.id, name || '@' || number AS version, digest, manifest, size"
        " FROM versions JOIN adapters ON adapters.id = adapter_id ORDER BY name, number"
    ):
        try:
            manifest = Manifest.from_json(row["manifest"])
        except InvalidData:
            yield f"the manifest of {row['version']} can't be read", _RESTORE
            continue
        listed = {(entry.path, entry.sha256, entry.size) for entry in manifest.files}
        if manifest.digest() != row["digest"] or manifest.to_json() != row["manifest"]:
            yield f"the manifest of {row['version']} does not have its digest", _RESTORE
        elif listed != files.get(row["id"], set()) or manifest.size != row["size"]:
            yield f"the files of {row['version']} are not those of its manifest", _RESTORE


def _production(db: Database) -> Iterator[tuple[str, str]]:
    # Mended where the history ends, so that it goes on unbroken.
    for row in db.query(
        "SELECT name, (SELECT number FROM alias_moves JOIN versions ON versions.id = to_version_id"
        " WHERE alias_moves.adapter_id = adapters.id AND alias = ? AND deleted_at IS NULL"
        " ORDER BY alias_moves.id DESC LIMIT 1) AS last, (SELECT MAX(number) FROM versions"
        " WHERE adapter_id = adapters.id AND deleted_at IS NULL) AS newest,"
        " (SELECT COUNT(*) FROM aliases WHERE adapter_id = adapters.id AND alias = ?) AS named"
        " FROM adapters ORDER BY name",
        [PRODUCTION, PRODUCTION],
    ):
        if row["newest"] is not None and row["named"] != 1:
            named = f"{row['name']}@{row['last'] or row['newest']}"
            yield (
                f"{row['name']} has versions and no production",
                f"`hub promote {named} --force --why 'it had none'`",
            )
        elif row["newest"] is None and row["named"]:
            yield f"{row['name']} has a production and no versions", _RESTORE


def _aliases(db: Database) -> Iterator[tuple[str, str]]:
    for row in db.query(
        "SELECT adapters.name, alias, number, deleted_at, versions.adapter_id AS owner,"
        " aliases.adapter_id FROM aliases JOIN adapters ON adapters.id = aliases.adapter_id"
        " LEFT JOIN versions ON versions.id = version_id ORDER BY name, alias"
    ):
        named = f"{row['name']}@{row['alias']}"
        mend = (
            f"Point it at another version: `hub alias set VERSION {row['alias']}`"
            " (with --force --why REASON where the gate has not passed it)."
        )
        if row["owner"] is None:
            yield f"{named} names a version that never was", mend
        elif row["owner"] != row["adapter_id"]:
            yield f"{named} names another adapter's version", mend
        elif row["deleted_at"] is not None:
            yield f"{named} names version {row['number']}, which is deleted", mend


def _history(db: Database) -> Iterator[tuple[str, str]]:
    now = {
        (row["name"], row["alias"]): row["version_id"]
        for row in db.query(
            "SELECT name, alias, version_id FROM aliases JOIN adapters ON adapters.id = adapter_id"
        )
    }
    last: dict[tuple[str, str], int | None] = {}
    for row in db.query(
        "SELECT name, alias, from_version_id, to_version_id FROM alias_moves"
        " JOIN adapters ON adapters.id = adapter_id ORDER BY alias_moves.id"
    ):
        key = (row["name"], row["alias"])
        # One that begins at nothing put back an alias whose row was lost.
        if row["from_version_id"] not in (None, last.get(key)):
            yield f"a move of {key[0]}@{key[1]} does not begin where the one before ended", _RESTORE
        last[key] = row["to_version_id"]
    for key in sorted({*now, *last}):
        if now.get(key) != last.get(key):
            # One that is gone can be put back where it was, which keeps the history unbroken.
            mend = f"Or put it back: `hub history {key[0]}`, `hub alias set VERSION {key[1]}`."
            if key[1] == PRODUCTION:
                mend = "Or do what `production` says above."
            again = _RESTORE if key in now else f"{_RESTORE} {mend}"
            yield f"{key[0]}@{key[1]} is not where its last move put it", again


def _numbers(db: Database) -> Iterator[tuple[str, str]]:
    for row in db.query(
        "SELECT name, last_number, MAX(number) AS highest FROM adapters"
        " JOIN versions ON adapter_id = adapters.id GROUP BY adapters.id"
        " HAVING highest > last_number ORDER BY name"
    ):
        yield (
            f"{row['name']} has a version {row['highest']}, and its last number is"
            f" {row['last_number']}",
            _RESTORE,
        )


def _records(db: Database) -> Iterator[tuple[str, str]]:
    """JSON columns that everything reads, each an object."""
    columns: dict[str, Any] = {"versions": "lineage", "evaluations": "result", "runs": "config"}
    for table, column in columns.items():
        for row in db.query(f"SELECT rowid AS id, {column} AS text FROM {table}"):
            try:
                readable = isinstance(json.loads(row["text"]), dict)
            except (ValueError, TypeError, RecursionError):
                readable = False
            if not readable:
                yield f"{column} of row {row['id']} of {table} can't be read", _RESTORE


_CHECKS: tuple[tuple[str, str, _Check], ...] = (
    ("database", "SQLite finds every page and index whole", _integrity),
    ("foreign keys", "every row names rows that are there", _foreign_keys),
    ("schema", "every table, index and trigger is there", _schema),
    (
        "manifests",
        "every version's digest and files are those of its manifest",
        _manifests,
    ),
    ("records", "every record can be read", _records),
    ("production", "every adapter that has versions has one production", _production),
    ("aliases", "every alias names a living version of its adapter", _aliases),
    ("history", "every alias is where its unbroken history ends", _history),
    ("numbers", "no number can be used again", _numbers),
)
