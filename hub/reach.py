"""What keeps a version, and the rows of deletion: a deleted version keeps its row, marked.

A living version is reached when an alias names it, when one named it or it was published within the
window, when a running gateway holds a lease on it, or when a reached version descends from it.

Files are `hub.sweep`'s business: it removes them after the row is marked, never before.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hub.aliases import write_move
from hub.clock import now
from hub.database import one, transaction
from hub.errors import Conflict, UnknownReference
from hub.facts import SweptVersion
from hub.names import PRODUCTION, AdapterRef
from hub.records import Version
from hub.sqlite import Database

ALIASED = "an alias names it"
LEASED = "a running gateway uses it"
NAMED = "an alias named it in that time"
PUBLISHED = "published in that time"
ANCESTOR = "a version that stays descends from it"
# Of versions that were removed already: their files wait for the gateway to let go.
LEASED_DELETED = "removed, but a running gateway uses it"
_SWEPT_AT = "swept_at"


@dataclass(frozen=True)
class Judgement:
    """`kept` counts living versions by what keeps them; `doomed` are the others, by row."""

    kept: dict[str, int]
    doomed: dict[int, SweptVersion]


@dataclass(frozen=True)
class Needed:
    """What files versions need: sha256 of blobs with their sizes, and names of folders."""

    blobs: dict[str, int]
    folders: set[str]


class Reach:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- what gc asks -----------------------------------------------------------------------------

    def judge(self, *, since: str, leased: set[str]) -> Judgement:
        """Which living versions stay, and which nothing reaches; `leased` are digests."""
        living = {
            int(row["id"]): row
            for row in self._db.query(
                "SELECT versions.id, name || '@' || number AS version, digest, size, published_at"
                " FROM versions JOIN adapters ON adapters.id = adapter_id"
                " WHERE deleted_at IS NULL ORDER BY name, number"
            )
        }
        reasons = self._reasons(living, since, leased)
        kept: dict[str, int] = {}
        for reason in reasons.values():
            kept[reason] = kept.get(reason, 0) + 1
        doomed = {i: row for i, row in living.items() if i not in reasons}
        last = self._last_named(doomed)
        return Judgement(
            kept,
            {
                i: SweptVersion(row["version"], _why(row["published_at"], last.get(i)), row["size"])
                for i, row in doomed.items()
            },
        )

    def _reasons(
        self, living: dict[int, dict[str, Any]], since: str, leased: set[str]
    ) -> dict[int, str]:
        """The first reason to keep each version that has one."""
        groups: list[tuple[str, Iterable[int]]] = [
            (ALIASED, self._ids("SELECT version_id AS id FROM aliases")),
            (LEASED, (i for i, row in living.items() if row["digest"] in leased)),
            (
                NAMED,
                self._ids(
                    "SELECT from_version_id AS id FROM alias_moves WHERE at > ?"
                    " UNION SELECT to_version_id FROM alias_moves WHERE at > ?",
                    since,
                    since,
                ),
            ),
            (PUBLISHED, (i for i, row in living.items() if row["published_at"] > since)),
        ]
        reasons: dict[int, str] = {}
        for reason, ids in groups:
            for i in ids:
                if i in living:
                    reasons.setdefault(i, reason)
        for i in self._ancestors(reasons):
            if i in living:
                reasons.setdefault(i, ANCESTOR)
        return reasons

    def _ids(self, sql: str, *values: str) -> list[int]:
        rows = self._db.query(sql, list(values))
        return [int(row["id"]) for row in rows if row["id"] is not None]

    def _ancestors(self, versions: Iterable[int]) -> set[int]:
        """Of any generation, also through versions that were deleted between."""
        parents: dict[int, list[int]] = {}
        for row in self._db.query("SELECT version_id, parent_id FROM version_parents"):
            parents.setdefault(row["version_id"], []).append(row["parent_id"])
        found: set[int] = set()
        waiting = list(versions)
        while waiting:
            for parent in parents.get(waiting.pop(), []):
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _last_named(self, versions: Iterable[int]) -> dict[int, tuple[str, str]]:
        """The alias that each version lost last, and when."""
        wanted = set(versions)
        if not wanted:
            return {}
        rows = self._db.query(
            "SELECT from_version_id AS id, alias, at FROM alias_moves"
            " WHERE from_version_id IS NOT NULL ORDER BY alias_moves.id"
        )
        return {row["id"]: (row["alias"], row["at"]) for row in rows if row["id"] in wanted}

    def needed(self, *, leased: set[str], without: Iterable[int] = ()) -> Needed:
        """The files of living and leased versions, less those of `without`."""
        dropped = set(without)
        blobs: dict[str, int] = {}
        folders: set[str] = set()
        for row in self._db.query(
            "SELECT versions.id, name || '@' || number AS version, digest, deleted_at,"
            " version_files.sha256, version_files.size FROM versions"
            " JOIN adapters ON adapters.id = adapter_id"
            " JOIN version_files ON version_id = versions.id"
            " WHERE deleted_at IS NULL OR digest IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(leased))],
        ):
            living = row["deleted_at"] is None and row["id"] not in dropped
            if living or row["digest"] in leased:
                blobs[row["sha256"]] = row["size"]
                folders.add(row["version"])
        return Needed(blobs, folders)

    def deleted_but_leased(self, leased: set[str]) -> int:
        rows = self._db.query("SELECT digest FROM versions WHERE deleted_at IS NOT NULL")
        return sum(row["digest"] in leased for row in rows)

    # -- deletion ---------------------------------------------------------------------------------

    def sweep(self, versions: Iterable[int]) -> None:
        """Mark rows as deleted, and when that was. The caller holds the transaction of `judge`.

        It writes even where there is nothing to mark. A process that is killed inside COMMIT may
        leave its transaction whole in the write-ahead log, but not yet in the log's index: nobody
        sees it, and the recovery after a crash would bring it back, after its files were swept
        away because nobody named them. The next transaction that writes takes its place in the log.
        """
        self.delete(versions)
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [_SWEPT_AT, now()])

    def delete(self, versions: Iterable[int]) -> None:
        """Mark rows as deleted. The caller holds the transaction."""
        at = now()
        for i in versions:
            self._db.execute("UPDATE versions SET deleted_at = ? WHERE id = ?", [at, i])

    def remove(self, version: Version) -> int:
        """Delete a version; returns the bytes that no living version needs then.

        Raises:
            Conflict: when aliases name it, with their names.
            UnknownReference: when somebody else deleted it meanwhile.
        """
        with transaction(self._db):
            if not one(
                self._db,
                "SELECT 1 FROM versions WHERE id = ? AND digest = ? AND deleted_at IS NULL",
                version.id,
                version.digest,
            ):
                raise UnknownReference(f"{version} has just been deleted")
            aliases = [
                str(row["alias"])
                for row in self._db.query(
                    "SELECT alias FROM aliases WHERE version_id = ? ORDER BY alias", [version.id]
                )
            ]
            if aliases:
                raise _aliased(version, aliases)
            self.delete([version.id])
            return self._only_needed_by([version.id])

    def remove_adapter(self, name: str, *, why: str) -> tuple[list[str], int]:
        """Delete every version of an adapter and take its aliases away, in one transaction.

        Returns the versions, oldest first, and the bytes that no living version needs then.

        Raises:
            UnknownReference: when it has no versions.
        """
        with transaction(self._db):
            adapter = one(self._db, "SELECT id FROM adapters WHERE name = ?", name)
            living = {} if adapter is None else self._living(adapter["id"])
            if adapter is None or not living:
                raise UnknownReference(
                    f"there is no adapter '{AdapterRef(name)}'", hint="`hub ls` lists them."
                )
            for row in list(
                self._db.query("SELECT * FROM aliases WHERE adapter_id = ?", [adapter["id"]])
            ):
                write_move(
                    self._db,
                    adapter["id"],
                    row["alias"],
                    from_id=row["version_id"],
                    to_id=None,
                    action="rm",
                    why=why,
                )
            self.delete(living)
            return [f"{name}@{number}" for number in living.values()], self._only_needed_by(living)

    def _living(self, adapter_id: int) -> dict[int, int]:
        rows = self._db.query(
            "SELECT id, number FROM versions WHERE adapter_id = ? AND deleted_at IS NULL"
            " ORDER BY number",
            [adapter_id],
        )
        return {row["id"]: row["number"] for row in rows}

    def _only_needed_by(self, versions: Iterable[int]) -> int:
        """Bytes of the blobs of deleted versions that no living version names."""
        blobs: dict[str, int] = {}
        for i in versions:
            for row in self._db.query(
                "SELECT sha256, size FROM version_files AS mine WHERE version_id = ?"
                " AND NOT EXISTS (SELECT 1 FROM version_files AS other"
                " JOIN versions ON versions.id = other.version_id"
                " JOIN adapters ON adapters.id = versions.adapter_id"
                " WHERE other.sha256 = mine.sha256 AND deleted_at IS NULL)",
                [i],
            ):
                blobs[row["sha256"]] = row["size"]
        return sum(blobs.values())


def _aliased(version: Version, aliases: list[str]) -> Conflict:
    named = " and ".join(f"{version.adapter}@{alias}" for alias in aliases)
    verb = "names" if len(aliases) == 1 else "name"
    ways = [
        f"`hub promote` another version{'' if alias == PRODUCTION else f' --to {alias}'}"
        + ("" if alias == PRODUCTION else f" or `hub alias rm {version.adapter}@{alias}`")
        for alias in aliases
    ]
    return Conflict(
        f"{named} {verb} {version}",
        hint=f"First {', and '.join(ways)}. `hub rm {version.adapter} --adapter --why REASON`"
        " removes the whole adapter.",
    )


def _why(published_at: str, last: tuple[str, str] | None) -> str:
    published = f"published {published_at[:10]}"
    if last is None:
        return f"{published}, never had an alias"
    return f"{published}, was {last[0]} until {last[1][:10]}"
