"""Aliases: movable names of versions, and the append-only history of every move.

What may move where is `hub.promotion`'s business; here a move is a move.
"""

import json

from hub.clock import now
from hub.database import one, transaction
from hub.errors import AliasMoved, Conflict, UnknownReference
from hub.facts import AliasFacts
from hub.names import PRODUCTION, AdapterRef, Alias, parse_alias
from hub.records import AliasMove, Version
from hub.sqlite import Database
from hub.who import whoami

_PROTECTED = "protected_aliases"


class Aliases:
    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, name: str) -> dict[str, int]:
        """An adapter's aliases and the numbers of the versions that they name."""
        return alias_numbers(self._db, name)

    def all(self, name: str | None = None) -> list[AliasFacts]:
        """The aliases of one adapter or of all, by adapter and alias."""
        where, values = ("WHERE name = ?", [name]) if name is not None else ("", [])
        protected = self.protected()
        return [
            AliasFacts(row["name"], row["alias"], row["number"], row["alias"] in protected)
            for row in self._db.query(
                "SELECT name, alias, number FROM aliases"
                " JOIN adapters ON adapters.id = aliases.adapter_id"
                f" JOIN versions ON versions.id = version_id {where} ORDER BY name, alias",
                values,
            )
        ]

    def number(self, name: str, alias: str) -> int | None:
        row = one(
            self._db,
            "SELECT number FROM aliases JOIN adapters ON adapters.id = aliases.adapter_id"
            " JOIN versions ON versions.id = version_id WHERE name = ? AND alias = ?",
            name,
            alias,
        )
        return int(row["number"]) if row else None

    def number_at(self, name: str, alias: str, at: str) -> int | None:
        row = one(
            self._db,
            "SELECT number FROM alias_moves JOIN adapters ON adapters.id = alias_moves.adapter_id"
            " LEFT JOIN versions ON versions.id = to_version_id"
            " WHERE name = ? AND alias = ? AND at <= ? ORDER BY alias_moves.id DESC LIMIT 1",
            name,
            alias,
            at,
        )
        return int(row["number"]) if row and row["number"] is not None else None

    # -- protection -------------------------------------------------------------------------------

    def protected(self) -> list[str]:
        """The alias names that only a version with the gate's PASS may take, in every adapter."""
        row = one(self._db, "SELECT value FROM settings WHERE key = ?", _PROTECTED)
        return [str(alias) for alias in json.loads(row["value"])] if row else [PRODUCTION]

    def protect(self, alias: str, *, protected: bool) -> list[str]:
        """Protect an alias name or stop to; returns all that are protected."""
        parse_alias(alias)
        with transaction(self._db):
            kept = set(self.protected())
            names = sorted(kept | {alias} if protected else kept - {alias})
            self._db.execute(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", [_PROTECTED, json.dumps(names)]
            )
        return names

    # -- moves ------------------------------------------------------------------------------------

    def move(
        self,
        version: Version,
        alias: str = PRODUCTION,
        *,
        action: str = "promote",
        expect: int | None = None,
        why: str = "",
        verdict: str = "NONE",
        forced: bool = False,
    ) -> AliasMove:
        """Point an alias at a version; with `expect`, only if it points there now (0: nowhere).

        Raises:
            AliasMoved: when it does not, carrying what it is now.
        """
        parse_alias(alias)
        with transaction(self._db):
            adapter_id, current_id, current = self._current(version.adapter, alias)
            if expect is not None and (current or 0) != expect:
                raise AliasMoved(
                    f"{version.adapter}@{alias} {_is_now(current)}, not {expect}"
                    if expect
                    else f"{version.adapter}@{alias} exists: it {_is_now(current)}",
                    current=current,
                    hint=f"Look at `hub history {version.adapter}` and decide again.",
                )
            write_move(
                self._db,
                adapter_id,
                alias,
                from_id=current_id,
                to_id=version.id,
                action=action,
                why=why,
                verdict=verdict,
                forced=forced,
            )
            return self._newest(version.adapter, alias)

    def remove(self, name: str, alias: str, *, why: str = "") -> AliasMove:
        """Take an alias away; its history stays, and ends with this. Raises UnknownReference."""
        with transaction(self._db):
            adapter_id, current_id, current = self._current(name, alias)
            if current_id is None or current is None:
                known = ", ".join(f"{name}@{known}" for known in self.of(name))
                raise UnknownReference(
                    f"there is no alias '{AdapterRef(name, Alias(alias))}'",
                    hint=f"There are: {known}." if known else f"'{name}' has no aliases.",
                )
            write_move(
                self._db, adapter_id, alias, from_id=current_id, to_id=None, action="rm", why=why
            )
            return self._newest(name, alias)

    def _current(self, name: str, alias: str) -> tuple[int, int | None, int | None]:
        """The adapter's row, and the row and number of the version that the alias names."""
        row = one(
            self._db,
            "SELECT adapters.id, aliases.version_id, now.number FROM adapters"
            " LEFT JOIN aliases ON aliases.adapter_id = adapters.id AND alias = ?"
            " LEFT JOIN versions AS now ON now.id = aliases.version_id"
            " WHERE adapters.name = ?",
            alias,
            name,
        )
        if row is None:
            raise UnknownReference(f"there is no adapter '{name}'", hint="`hub ls` lists them.")
        return row["id"], row["version_id"], row["number"]

    # -- history ----------------------------------------------------------------------------------

    def history(self, name: str, alias: str | None = None) -> list[AliasMove]:
        """Every move of an adapter's aliases (or of one), newest first."""
        return [move for _, move in self.moves(name, alias)]

    def _newest(self, name: str, alias: str) -> AliasMove:
        return self.moves(name, alias, limit=1)[0][1]

    def moves(
        self, name: str, alias: str | None = None, *, below: int | None = None, limit: int = -1
    ) -> list[tuple[int, AliasMove]]:
        """As `history`, each with its place in the adapter's whole history, which begins at 1; of a
        long list, the next `limit` below a place. (A row's id would tell how much others move.)"""
        where, values = "TRUE", [name, limit]
        if below is not None:
            where, values = "place < ?", [name, below, limit]
        if alias is not None:
            where, values = f"alias = ? AND {where}", [name, alias, *values[1:]]
        rows = self._db.query(
            "SELECT * FROM (SELECT ROW_NUMBER() OVER (ORDER BY alias_moves.id) AS place,"
            " alias, action, f.number AS from_number,"
            " t.number AS to_number, who, why, verdict, forced, at,"
            " f.deleted_at IS NOT NULL AS from_deleted,"
            " t.deleted_at IS NOT NULL AS to_deleted FROM alias_moves"
            " JOIN adapters ON adapters.id = alias_moves.adapter_id"
            " LEFT JOIN versions AS f ON f.id = from_version_id"
            " LEFT JOIN versions AS t ON t.id = to_version_id"
            f" WHERE name = ?) WHERE {where} ORDER BY place DESC LIMIT ?",
            values,
        )
        flags = ("forced", "from_deleted", "to_deleted")
        return [
            (row.pop("place"), AliasMove(**{**row, **{flag: bool(row[flag]) for flag in flags}}))
            for row in rows
        ]

    def before_rollback(self, name: str, alias: str = PRODUCTION) -> int:
        """The number that a rollback goes to: never that of a deleted version.

        History is read as a stack (a rollback takes back the moves above where it lands), so that
        rolling back twice goes back two versions rather than to and fro.

        Raises:
            Conflict: when there is nothing before the present one.
        """
        stack: list[int | None] = []
        deleted: set[int | None] = {None}
        for move in reversed(self.history(name, alias)):
            if move.to_deleted:
                deleted.add(move.to_number)
            if move.action == "rollback" and move.to_number in stack[:-1]:
                stack.pop()
                while stack[-1] != move.to_number:
                    stack.pop()
            if not stack or stack[-1] != move.to_number:
                stack.append(move.to_number)
        current = stack[-1] if stack else None
        earlier = [n for n in stack[:-1] if n is not None and n not in deleted and n != current]
        if not earlier:
            gone = any(n is not None and n in deleted for n in stack[:-1])
            raise Conflict(
                f"{name}@{alias} has no earlier version to go back to"
                + (" that has not been deleted" if gone else ""),
                hint=f"`hub history {name}` shows its moves.",
            )
        return earlier[-1]


def alias_numbers(db: Database, name: str) -> dict[str, int]:
    rows = db.query(
        "SELECT alias, number FROM aliases JOIN adapters ON adapters.id = aliases.adapter_id"
        " JOIN versions ON versions.id = version_id WHERE name = ? ORDER BY alias",
        [name],
    )
    return {row["alias"]: int(row["number"]) for row in rows}


def write_move(
    db: Database,
    adapter_id: int,
    alias: str,
    *,
    from_id: int | None,
    to_id: int | None,
    action: str,
    why: str,
    verdict: str = "NONE",
    forced: bool = False,
) -> None:
    """Move an alias (with None, take it away) and record it. The caller holds the transaction."""
    if to_id is None:
        db.execute("DELETE FROM aliases WHERE adapter_id = ? AND alias = ?", [adapter_id, alias])
    else:
        db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", [adapter_id, alias, to_id])
    db.execute(
        "INSERT INTO alias_moves"
        " (adapter_id, alias, action, from_version_id, to_version_id,"
        " who, why, verdict, forced, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [adapter_id, alias, action, from_id, to_id, whoami(), why, verdict, int(forced), now()],
    )


def _is_now(current: int | None) -> str:
    return "does not exist now" if current is None else f"is version {current} now"
