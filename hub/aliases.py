"""Aliases: movable names of versions, and the append-only history of every move."""

from hub.clock import now
from hub.database import one, transaction, whoami
from hub.errors import AliasMoved, Conflict, UnknownReference
from hub.names import PRODUCTION, parse_alias
from hub.records import AliasMove, Version
from hub.sqlite import Database


class Aliases:
    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, name: str) -> dict[str, int]:
        """An adapter's aliases and the numbers of the versions that they name."""
        return alias_numbers(self._db, name)

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
        """Point an alias at a version; with `expect`, only if it points there now.

        Raises:
            AliasMoved: when it does not, carrying what it is now.
        """
        parse_alias(alias)
        with transaction(self._db):
            row = one(
                self._db,
                "SELECT adapters.id, aliases.version_id, now.number FROM adapters"
                " LEFT JOIN aliases ON aliases.adapter_id = adapters.id AND alias = ?"
                " LEFT JOIN versions AS now ON now.id = aliases.version_id"
                " WHERE adapters.name = ?",
                alias,
                version.adapter,
            )
            if row is None:
                raise UnknownReference(f"there is no adapter '{version.adapter}'")
            current = row["number"]
            if expect is not None and current != expect:
                raise AliasMoved(
                    f"{version.adapter}@{alias} is version {current} now, not {expect}",
                    current=current,
                    hint=f"Look at `hub history {version.adapter}` and decide again.",
                )
            write_move(
                self._db,
                row["id"],
                alias,
                from_id=row["version_id"],
                to_id=version.id,
                action=action,
                why=why,
                verdict=verdict,
                forced=forced,
            )
        return self.history(version.adapter, alias)[0]

    def history(self, name: str, alias: str | None = None) -> list[AliasMove]:
        """Every move of an adapter's aliases (or of one), newest first."""
        where, values = ("AND alias = ?", [name, alias]) if alias else ("", [name])
        rows = self._db.query(
            "SELECT alias, action, f.number AS from_number, t.number AS to_number, who, why,"
            " verdict, forced, at FROM alias_moves"
            " JOIN adapters ON adapters.id = alias_moves.adapter_id"
            " LEFT JOIN versions AS f ON f.id = from_version_id"
            " LEFT JOIN versions AS t ON t.id = to_version_id"
            f" WHERE name = ? {where} ORDER BY alias_moves.id DESC",
            values,
        )
        return [AliasMove(**{**row, "forced": bool(row["forced"])}) for row in rows]

    def before_rollback(self, name: str, alias: str = PRODUCTION) -> int:
        """The number that a rollback goes to.

        History is read as a stack (a rollback takes back the moves above where it lands), so that
        rolling back twice goes back two versions rather than to and fro.

        Raises:
            Conflict: when there is nothing before the present one.
        """
        stack: list[int | None] = []
        for move in reversed(self.history(name, alias)):
            if move.action == "rollback":
                del stack[-1:]
                while stack and stack[-1] != move.to_number:
                    stack.pop()
            if not stack or stack[-1] != move.to_number:
                stack.append(move.to_number)
        earlier = [number for number in stack[:-1] if number is not None]
        if not earlier:
            raise Conflict(
                f"{name}@{alias} has no earlier version to go back to",
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
    to_id: int,
    action: str,
    why: str,
    verdict: str = "NONE",
    forced: bool = False,
) -> None:
    """Move an alias and record it. The caller holds the write transaction."""
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", [adapter_id, alias, to_id])
    db.execute(
        "INSERT INTO alias_moves"
        " (adapter_id, alias, action, from_version_id, to_version_id,"
        " who, why, verdict, forced, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [adapter_id, alias, action, from_id, to_id, whoami(), why, verdict, int(forced), now()],
    )
