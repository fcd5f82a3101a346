"""The versions in the registry: immutable, numbered once, found by number or digest."""

import json
from difflib import get_close_matches
from typing import Any

from hub.aliases import alias_numbers, write_move
from hub.clock import now
from hub.database import one, transaction
from hub.errors import (
    AdapterRejected,
    IntegrityError,
    InvalidData,
    InvalidName,
    InvalidReference,
    UnknownBase,
    UnknownReference,
)
from hub.fence import Fence
from hub.manifest import Manifest, canonical_json
from hub.names import PRODUCTION, AdapterRef, Digest, Number, parse_name
from hub.records import Base, Kin, Version
from hub.sqlite import Database
from hub.who import whoami

_EVER = """
    SELECT versions.*, adapters.name AS adapter, bases.name AS base, bases.digest AS base_digest
    FROM versions
    JOIN adapters ON adapters.id = versions.adapter_id
    JOIN bases ON bases.id = adapters.base_id
"""
_VERSION = f"{_EVER} WHERE versions.deleted_at IS NULL"


# How many names a refusal lists.
_LISTED = 20
# Above every number that the grammar has.
_NO_NUMBER = 10**9


class Versions:
    def __init__(self, db: Database, fence: Fence) -> None:
        self._db = db
        self._fence = fence

    def add(
        self,
        name: str,
        manifest: Manifest,
        *,
        rank: int,
        lineage: dict[str, Any],
        run_id: str | None = None,
        dataset_id: int | None = None,
        parent: Version | None = None,
    ) -> tuple[Version, bool]:
        """Record a version whose files are already in the store; tells whether it is new.

        The same content published again is the version that it already was, unless that was
        deleted: then it gets a number of its own. The first version of an adapter (also the first
        after all were removed) becomes `production`; later ones don't move it.

        Raises:
            UnknownBase: when the manifest's base is not in this registry.
            AdapterRejected: when the adapter stands on another base.
        """
        parse_name(name)
        digest = manifest.digest()
        with transaction(self._db):
            base = one(
                self._db,
                # By content: what comes from another hub may know the base by another name.
                "SELECT id, name FROM bases WHERE digest = ? ORDER BY"
                " id = (SELECT base_id FROM adapters WHERE name = ?) DESC, name = ? DESC, id",
                manifest.base.digest(),
                name,
                manifest.base.name,
            )
            if base is None:
                raise UnknownBase(f"the base '{manifest.base.name}' is not in this registry")
            adapter = self._adapter_on_base(name, int(base["id"]), str(base["name"]))
            known = one(
                self._db,
                "SELECT number FROM versions WHERE adapter_id = ? AND digest = ?"
                " AND deleted_at IS NULL",
                adapter["id"],
                digest,
            )
            if known is not None:
                number, created = int(known["number"]), False
            else:
                number, created = int(adapter["last_number"]) + 1, True
                self._insert_version(
                    int(adapter["id"]), number, manifest, rank, lineage, run_id, dataset_id, parent
                )
        return self.get(name, number), created

    def _insert_version(
        self,
        adapter_id: int,
        number: int,
        manifest: Manifest,
        rank: int,
        lineage: dict[str, Any],
        run_id: str | None,
        dataset_id: int | None,
        parent: Version | None,
    ) -> None:
        # Where a fence stands (`hub.fence`), `adapters` alone is a view.
        self._db.execute(
            "UPDATE main.adapters SET last_number = ? WHERE id = ?", [number, adapter_id]
        )
        version_id: Any = (
            self._db.table("versions")
            .insert(
                {
                    "adapter_id": adapter_id,
                    "number": number,
                    "digest": manifest.digest(),
                    "manifest": manifest.to_json(),
                    "rank": rank,
                    "size": manifest.size,
                    "lineage": canonical_json(lineage),
                    "run_id": run_id,
                    "dataset_id": dataset_id,
                    "published_by": whoami(),
                    "published_at": now(),
                    "deleted_at": None,
                }
            )
            .last_pk
        )
        for entry in manifest.files:
            self._db.execute(
                "INSERT INTO version_files VALUES (?, ?, ?, ?)",
                [version_id, entry.path, entry.sha256, entry.size],
            )
        if parent is not None:
            self._db.execute(
                "INSERT INTO version_parents VALUES (?, ?, 'continued', NULL)",
                [version_id, parent.id],
            )
        if not one(
            self._db,
            "SELECT 1 FROM aliases WHERE adapter_id = ? AND alias = ?",
            adapter_id,
            PRODUCTION,
        ):
            write_move(
                self._db,
                adapter_id,
                PRODUCTION,
                from_id=None,
                to_id=version_id,
                action="publish",
                why="first version" if number == 1 else "first version since all were removed",
            )

    def last_number(self, name: str) -> int:
        """The highest number that an adapter ever gave, 0 for one that is not known."""
        row = one(self._db, "SELECT last_number FROM adapters WHERE name = ?", name)
        return int(row["last_number"]) if row else 0

    def require_base(self, name: str, base: Base) -> None:
        """Refuse now what `add` would refuse after hours of training.

        Raises:
            InvalidName: when the name is a base's, which would hide the adapter.
            AdapterRejected: when the adapter stands on another base.
        """
        self._require_base(parse_name(name), base.id, base.name)

    def _require_base(self, name: str, base_id: int, base_name: str) -> None:
        row = one(
            self._db,
            "SELECT bases.name, base_id FROM adapters JOIN bases ON bases.id = base_id"
            " WHERE adapters.name = ?",
            name,
        )
        if row is None:
            if one(self._db, "SELECT 1 FROM bases WHERE name = ?", name):
                raise InvalidName(
                    f"'{name}' is the name of a base, which would hide the adapter",
                    hint="Choose another name for the adapter.",
                )
        elif row["base_id"] != base_id:
            raise AdapterRejected(
                f"the adapter '{name}' stands on the base '{row['name']}', not on '{base_name}'",
                check="base",
                hint="Publish it under another name: an adapter keeps its base for life.",
            )

    def _adapter_on_base(self, name: str, base_id: int, base_name: str) -> dict[str, Any]:
        self._require_base(name, base_id, base_name)
        self._db.execute(
            "INSERT OR IGNORE INTO main.adapters (name, base_id, created_at) VALUES (?, ?, ?)",
            [name, base_id, now()],
        )
        row = one(self._db, "SELECT * FROM adapters WHERE name = ?", name)
        assert row is not None
        return row

    def get(self, name: str, number: int) -> Version:
        """Raises UnknownReference when there is no such version."""
        if abs(number) > _NO_NUMBER:  # more than SQLite could compare
            raise UnknownReference(f"there is no version '{name}@{number}'")
        row = one(self._db, f"{_VERSION} AND adapters.name = ? AND number = ?", name, number)
        if row is None:
            raise self.unknown(AdapterRef(name, Number(number)))
        return _version(row)

    def ever(self, name: str, number: int) -> Version:
        """As `get`, also when it has been deleted: for what tells of the past."""
        row = one(self._db, f"{_EVER} WHERE adapters.name = ? AND number = ?", name, number)
        if row is None:
            raise self.unknown(AdapterRef(name, Number(number)))
        return _version(row)

    def living_at(self, name: str, at: str) -> list[Version]:
        """An adapter's versions that were there at a time, newest first.

        In the millisecond of its deletion a version is still there.
        """
        rows = self._db.query(
            f"{_EVER} WHERE adapters.name = ? AND published_at <= ?"
            " AND (deleted_at IS NULL OR deleted_at >= ?) ORDER BY number DESC",
            [name, at, at],
        )
        return [_version(row) for row in rows]

    def parents(self, version: Version) -> list[Kin]:
        """What a version was continued or composed from, deleted ones too, in order of age."""
        return self._kin("parent_id = versions.id WHERE version_id = ?", version)

    def children(self, version: Version) -> list[Kin]:
        """What was continued or composed from a version, deleted ones too, in order of age."""
        return self._kin("version_id = versions.id WHERE parent_id = ?", version)

    def _kin(self, joined: str, version: Version) -> list[Kin]:
        rows = self._db.query(
            f"{_EVER.replace('versions.*,', 'versions.*, relation, weight,')}"
            f" JOIN version_parents ON {joined} ORDER BY versions.id",
            [version.id],
        )
        return [Kin(_version(row), row["relation"], row["weight"]) for row in rows]

    def of(self, name: str, *, below: int | None = None, limit: int = -1) -> list[Version]:
        """All versions of an adapter, newest first; raises UnknownReference for an unknown one.

        Of a long list, the next `limit` with numbers below one.
        """
        rows = self._db.query(
            f"{_VERSION} AND adapters.name = ? AND number < ? ORDER BY number DESC LIMIT ?",
            [name, _NO_NUMBER if below is None else below, limit],
        )
        found = [_version(row) for row in rows]
        if not found and below is None:
            raise self.unknown(AdapterRef(name))
        return found

    def find(self, name: str, digest: str) -> Version | None:
        """The version of an adapter that has this whole digest, if there is one."""
        row = one(
            self._db, f"{_VERSION} AND adapters.name = ? AND versions.digest = ?", name, digest
        )
        return _version(row) if row else None

    def with_digest(self, digest: str) -> list[Version]:
        """The versions of any adapter that have this whole digest."""
        rows = self._db.query(f"{_VERSION} AND versions.digest = ? ORDER BY versions.id", [digest])
        return [_version(row) for row in rows]

    def names_file(self, sha256: str) -> bool:
        """Whether a living version has a file of this hash."""
        return (
            one(
                self._db,
                "SELECT 1 FROM version_files JOIN versions ON versions.id = version_id"
                " JOIN adapters ON adapters.id = adapter_id"
                " WHERE sha256 = ? AND deleted_at IS NULL",
                sha256,
            )
            is not None
        )

    def all(self, base: Base | None = None) -> list[Version]:
        """Every version in the hub (of one base), by adapter name and number."""
        where, values = ("AND bases.id = ?", [base.id]) if base else ("", [])
        rows = self._db.query(f"{_VERSION} {where} ORDER BY adapters.name, number", values)
        return [_version(row) for row in rows]

    def living(self) -> list[tuple[str, int, str]]:
        """Adapter, number and digest of every version, those of one base together; also of those
        whose rows can't be read as versions."""
        rows = self._db.query(f"{_VERSION} ORDER BY bases.name, adapters.name, number")
        return [(row["adapter"], row["number"], row["digest"]) for row in rows]

    def by_digest(self, reference: AdapterRef, digest: Digest) -> Version:
        rows = list(
            self._db.query(
                f"{_VERSION} AND adapters.name = ? AND versions.digest LIKE ?",
                [reference.name, f"{digest.value}%"],
            )
        )
        if not rows:
            raise self.unknown(reference)
        if len(rows) > 1:
            raise InvalidReference(
                f"{reference} fits {len(rows)} versions", hint="Give more digits."
            )
        return _version(rows[0])

    def unknown(self, reference: AdapterRef) -> UnknownReference:
        """The error for a reference that names nothing living: what exists, and what to run."""
        known = [
            row["name"]
            for row in self._db.query(
                "SELECT name FROM adapters WHERE EXISTS (SELECT 1 FROM versions"
                " WHERE adapter_id = adapters.id AND deleted_at IS NULL) ORDER BY name"
            )
        ]
        if reference.name in known:
            numbers = [
                str(row["number"])
                for row in self._db.query(
                    f"{_VERSION} AND adapters.name = ? ORDER BY number DESC LIMIT 5",
                    [reference.name],
                )
            ]
            aliases = list(alias_numbers(self._db, reference.name))
            exists = ", ".join(f"{reference.name}@{part}" for part in (*aliases, *numbers))
            hint = f"There are: {exists}."
        elif known:
            near = get_close_matches(reference.name, known, n=5)
            listed = [*near, *(name for name in known if name not in near)][:_LISTED]
            more = f" and {len(known) - _LISTED} more (`hub ls`)" if len(known) > _LISTED else ""
            hint = f"There are: {', '.join(listed)}{more}. Run `hub ls`."
        elif self._fence.namespaces is not None:
            hint = "Nothing is published there yet."
        else:
            hint = f"Nothing is published yet. Run `hub train {reference.name} --data FILE`."
        hint += self._fence.hint
        if deleted_at := self._deleted_at(reference):
            return UnknownReference(f"{reference} was deleted at {deleted_at}", hint=hint)
        what = "version" if reference.name in known else "adapter"
        return UnknownReference(f"there is no {what} '{reference}'", hint=hint)

    def _deleted_at(self, reference: AdapterRef) -> str | None:
        if not isinstance(reference.selector, Number):
            return None
        row = one(
            self._db,
            "SELECT deleted_at FROM versions JOIN adapters ON adapters.id = adapter_id"
            " WHERE name = ? AND number = ?",
            reference.name,
            reference.selector.value,
        )
        return str(row["deleted_at"]) if row else None


def _version(row: dict[str, Any]) -> Version:
    """Raises IntegrityError when another program has changed the row into none of ours."""
    where, hint = f"{row['adapter']}@{row['number']}", "Restore a backup: `hub restore FILE`."
    try:
        manifest = Manifest.from_json(row["manifest"])
    except InvalidData as error:
        raise IntegrityError(
            f"its row's manifest can't be read ({error.message})", where=where, hint=hint
        ) from error
    try:
        lineage = json.loads(row["lineage"])
    except ValueError:
        lineage = None
    if not isinstance(lineage, dict):
        raise IntegrityError("its row's lineage can't be read", where=where, hint=hint)
    return Version(
        id=row["id"],
        adapter=row["adapter"],
        number=row["number"],
        digest=row["digest"],
        base=row["base"],
        base_digest=row["base_digest"],
        rank=row["rank"],
        size=row["size"],
        manifest=manifest,
        lineage=lineage,
        published_by=row["published_by"],
        published_at=row["published_at"],
        run_id=row["run_id"],
        dataset_id=row["dataset_id"],
        deleted_at=row["deleted_at"],
    )
