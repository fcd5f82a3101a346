"""What must hold after a kill: the registry's rows before and after, and what the dead had said."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hub.home import Home
from tests.hub.crashwork import NAMES


class Said(Protocol):
    """What a process had acknowledged, and what it had begun and not."""

    done: list[tuple[str, dict[str, Any]]]
    unfinished: str | None


@dataclass(frozen=True)
class Seen:
    """Every version and every move, as rows, and the adapter of every alias `production`."""

    versions: list[dict[str, Any]]
    moves: list[dict[str, Any]]
    productions: list[str]


def look(home: Home) -> Seen:
    connection = sqlite3.connect(home.registry)
    connection.row_factory = sqlite3.Row
    try:
        versions = connection.execute(
            "SELECT versions.id, name, number, digest, deleted_at FROM versions"
            " JOIN adapters ON adapters.id = adapter_id ORDER BY versions.id"
        )
        moves = connection.execute(
            "SELECT alias_moves.id, name, alias, action, f.number AS from_number,"
            " t.number AS to_number, at FROM alias_moves"
            " JOIN adapters ON adapters.id = alias_moves.adapter_id"
            " LEFT JOIN versions AS f ON f.id = from_version_id"
            " LEFT JOIN versions AS t ON t.id = to_version_id ORDER BY alias_moves.id"
        )
        named = connection.execute(
            "SELECT name FROM aliases JOIN adapters ON adapters.id = adapter_id"
            " WHERE alias = 'production' ORDER BY name"
        )
        return Seen(
            [dict(row) for row in versions],
            [dict(row) for row in moves],
            [row["name"] for row in named],
        )
    finally:
        connection.close()


def differences(before: Seen, now: Seen, children: Sequence[Said]) -> list[str]:
    problems = []
    for old, new in zip(before.versions, now.versions, strict=False):
        same = all(old[key] == new[key] for key in ("id", "name", "number", "digest"))
        if not same or (old["deleted_at"] and new["deleted_at"] != old["deleted_at"]):
            problems.append(f"a version changed: {old} -> {new}")
    if len(now.versions) < len(before.versions) or now.moves[: len(before.moves)] != before.moves:
        problems.append("something of the past is gone")
    # By plain SQL: the doctor is under test as well.
    living = sorted({row["name"] for row in now.versions if row["deleted_at"] is None})
    if now.productions != living:
        problems.append(f"production of {now.productions}, versions of {living}")
    for name in NAMES:
        numbers = [row["number"] for row in now.versions if row["name"] == name]
        if numbers != list(range(1, len(numbers) + 1)):
            problems.append(f"{name} has the numbers {numbers}")
    problems += _lost(now, children)
    problems += _invented(before, now, children)
    return problems


def _lost(now: Seen, children: Sequence[Said]) -> list[str]:
    """What was acknowledged and is not there."""
    digests = {f"{row['name']}@{row['number']}": row["digest"] for row in now.versions}
    deleted = {f"{row['name']}@{row['number']}" for row in now.versions if row["deleted_at"]}
    keys = ("name", "alias", "action", "from_number", "to_number", "at")
    moves = Counter(tuple(row[key] for key in keys) for row in now.moves)
    problems = []
    for operation, facts in (entry for child in children for entry in child.done):
        if operation == "publish":
            if digests.get(facts["version"]) != facts["digest"]:
                problems.append(f"lost: {facts}")
        elif operation == "remove":
            problems += [f"not deleted: {v}" for v in facts["versions"] if v not in deleted]
        elif operation == "gc":
            gone = [entry["version"] for entry in facts["versions"]]
            problems += [f"not deleted: {v}" for v in gone if v not in deleted]
        elif not moves[tuple(facts[key] for key in keys)]:
            problems.append(f"lost: {operation} {facts}")
    return problems


def _invented(before: Seen, now: Seen, children: Sequence[Said]) -> list[str]:
    """New rows that no operation accounts for; an unfinished one may have come through or not."""
    unfinished = Counter(child.unfinished for child in children)
    done = [entry for child in children for entry in child.done]
    published = sum(op == "publish" and facts["created"] for op, facts in done)
    new_versions = len(now.versions) - len(before.versions)
    moved = Counter(facts["action"] for op, facts in done if op not in ("publish", "remove", "gc"))
    new_moves = Counter(row["action"] for row in now.moves[len(before.moves) :])
    problems = []
    if not published <= new_versions <= published + unfinished["publish"]:
        problems.append(f"{new_versions} new versions, {published} acknowledged")
    for action, operation in (
        ("promote", "promote"), ("rollback", "rollback"), ("set", "set_alias"),
    ):  # fmt: skip
        if not moved[action] <= new_moves[action] <= moved[action] + unfinished[operation]:
            problems.append(
                f"{new_moves[action]} new moves by {action}, {moved[action]} acknowledged"
            )
    return problems
