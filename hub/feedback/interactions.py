"""`interactions.db`: every logged request with its answer, feedback on it, and comparisons.

Beside the registry rather than in it, so that traffic can't slow or bloat it and logs can be wiped
or kept on their own terms. Who may write is the caller's business; nothing here talks HTTP.

What is committed survives its process being killed at any moment. What people say (feedback,
comparisons, votes) is forced to the disk as well, and with it all that was recorded before; single
interactions are not, since a disk takes milliseconds for that: only a power cut or a crash of the
whole machine can lose the last of them.
"""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from hub.clock import now
from hub.database import one, open_database, transaction
from hub.errors import Conflict, InvalidData, UnknownInteraction
from hub.home import Home
from hub.migrations import interaction_migrations
from hub.sqlite import Database

VOTES = ("left", "right", "tie", "both_bad", "none")


@dataclass(frozen=True)
class Interaction:
    """One request and what came of it.

    `adapter` is the exact version that answered (`support@3`) or `base`; `answer` is the first
    choice's text; `request` and `response` are JSON texts. Times are milliseconds from the
    request's arrival. `status` is complete, incomplete (cut off) or failed. `key` is the public id
    of the API key that asked, None where the server wanted none.
    """

    id: str
    at: str
    endpoint: str
    requested: str
    adapter: str
    digest: str
    request: str
    answer: str
    response: str
    status: str
    latency_ms: float
    error: str | None = None
    user: str | None = None
    ttft_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class Feedback:
    id: int
    interaction_id: str
    kind: str
    thumb: int | None
    edit: str | None
    tags: list[str]
    comment: str | None
    at: str


@dataclass(frozen=True)
class Comparison:
    """One prompt answered by two arms; sides were drawn by whoever made it."""

    id: str
    at: str
    messages: list[dict[str, Any]]
    left_arm: str
    right_arm: str
    left_interaction: str | None
    right_interaction: str | None
    vote: str | None
    voted_at: str | None
    key: str | None = None


def new_id(prefix: str) -> str:
    """Sortable by time, not guessable: `int_` and 12 hex of milliseconds and 16 random hex."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def unknown(interaction_id: str) -> UnknownInteraction:
    """The one answer for an interaction that is not there, or not for whoever asks."""
    return UnknownInteraction(
        f"there is no interaction '{interaction_id}'",
        hint="Its id is in the answer's x-hub-interaction-id header.",
    )


def unknown_comparison(comparison_id: str) -> UnknownInteraction:
    return UnknownInteraction(f"there is no comparison '{comparison_id}'")


_COLUMNS = tuple(field.name for field in fields(Interaction))
_INSERT = (
    f"INSERT INTO interactions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_row = attrgetter(*_COLUMNS)


class InteractionLog:
    """Serialise access yourself where several threads share one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        db.execute("PRAGMA synchronous = NORMAL")

    @classmethod
    def open(cls, home: Home, *, any_thread: bool = False) -> "InteractionLog":
        return cls(
            open_database(
                home.require().create().interactions, interaction_migrations, any_thread=any_thread
            )
        )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "InteractionLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- interactions -----------------------------------------------------------------------------

    def record(self, interactions: Sequence[Interaction]) -> None:
        """Commit a group of interactions in one transaction."""
        if len(interactions) == 1:
            # One statement is a transaction of its own, and three would be thrice the way.
            self._db.conn.execute(_INSERT, _row(interactions[0]))
            return
        with transaction(self._db):
            self._db.conn.executemany(_INSERT, map(_row, interactions))

    def get(self, interaction_id: str) -> Interaction:
        """Raises UnknownInteraction."""
        row = one(self._db, "SELECT * FROM interactions WHERE id = ?", interaction_id)
        if row is None:
            raise unknown(interaction_id)
        return Interaction(**row)

    def newest(self, limit: int = 20) -> list[Interaction]:
        rows = self._db.query("SELECT * FROM interactions ORDER BY id DESC LIMIT ?", [limit])
        return [Interaction(**row) for row in rows]

    def most_asked(self, *, among: int, limit: int) -> list[str]:
        """The references to adapters that were answered among the newest `among` interactions, the
        most frequent first, and of equals the latest."""
        rows = self._db.query(
            "SELECT requested FROM"
            " (SELECT id, requested, adapter, status FROM interactions ORDER BY id DESC LIMIT ?)"
            " WHERE status = 'complete' AND adapter <> 'base'"
            " GROUP BY requested ORDER BY COUNT(*) DESC, MAX(id) DESC"
            " LIMIT ?",
            [among, limit],
        )
        return [row["requested"] for row in rows]

    # -- feedback ---------------------------------------------------------------------------------

    def give_feedback(
        self,
        interaction_id: str,
        *,
        thumb: int | None = None,
        edit: str | None = None,
        tags: list[str] | None = None,
        comment: str | None = None,
    ) -> Feedback:
        """Attach one piece of feedback: a thumb (1 or -1), an edited answer, or reason tags.

        Raises:
            UnknownInteraction: when there is no such interaction.
            InvalidData: unless exactly one of thumb, edit and tags is given.
        """
        self.get(interaction_id)
        given = {"thumb": thumb, "edit": edit, "tags": tags}
        kinds = [kind for kind, value in given.items() if value is not None]
        if len(kinds) != 1:
            raise InvalidData(
                f"feedback holds exactly one of thumb, edit and tags, not {len(kinds)}",
                hint="Send a request for each.",
            )
        if thumb not in (None, 1, -1):
            raise InvalidData("thumb is 1 (up) or -1 (down)")
        if edit is not None and not edit.strip():
            raise InvalidData("an edited answer can't be empty")
        with self._forced():
            key: Any = (
                self._db.table("feedback")
                .insert(
                    {
                        "interaction_id": interaction_id,
                        "kind": kinds[0],
                        "thumb": thumb,
                        "edit": edit,
                        "tags": json.dumps(tags) if tags is not None else None,
                        "comment": comment,
                        "at": now(),
                    }
                )
                .last_pk
            )
        return next(entry for entry in self.feedback(interaction_id) if entry.id == key)

    def feedback(self, interaction_id: str | None = None) -> list[Feedback]:
        """All feedback (on one interaction), oldest first."""
        where, values = (
            ("WHERE interaction_id = ?", [interaction_id]) if interaction_id else ("", [])
        )
        rows = self._db.query(f"SELECT * FROM feedback {where} ORDER BY id", values)
        return [Feedback(**{**row, "tags": json.loads(row["tags"] or "[]")}) for row in rows]

    # -- comparisons ------------------------------------------------------------------------------

    def add_comparison(
        self,
        messages: list[dict[str, Any]],
        left_arm: str,
        right_arm: str,
        *,
        key: str | None = None,
    ) -> Comparison:
        comparison_id = new_id("cmp")
        with self._forced():
            self._db.table("comparisons").insert(
                {
                    "id": comparison_id,
                    "at": now(),
                    "messages": json.dumps(messages),
                    "left_arm": left_arm,
                    "right_arm": right_arm,
                    "key": key,
                }
            )
        return self.comparison(comparison_id)

    def answer_comparison(self, comparison_id: str, left: str, right: str) -> None:
        """Attach the interactions that answered."""
        with self._forced():
            self._db.execute(
                "UPDATE comparisons SET left_interaction = ?, right_interaction = ? WHERE id = ?",
                [left, right, comparison_id],
            )

    def vote(self, comparison_id: str, vote: str) -> Comparison:
        """Record the one vote of a comparison; `none` reveals the arms without one.

        Raises:
            UnknownInteraction: when there is no such comparison.
            InvalidData: when the vote is not one of VOTES.
            Conflict: when it has been voted on, its answers are not there yet, or one of them
                failed and a side is chosen all the same.
        """
        if vote not in VOTES:
            raise InvalidData(f"a vote is one of {', '.join(VOTES)}, not '{vote}'")
        with self._forced():
            comparison = self.comparison(comparison_id)
            if comparison.vote is not None:
                raise Conflict(f"this comparison was voted '{comparison.vote}' already")
            sides = (comparison.left_interaction, comparison.right_interaction)
            if None in sides:
                raise Conflict("this comparison is not answered yet")
            failed = any(self.get(str(side)).status != "complete" for side in sides)
            if failed and vote in ("left", "right", "tie"):
                raise Conflict(
                    "a side of this comparison failed, so there is nothing to choose",
                    hint="Ask again, or say both_bad or none.",
                )
            self._db.table("comparisons").update(comparison_id, {"vote": vote, "voted_at": now()})
        return self.comparison(comparison_id)

    def comparison(self, comparison_id: str) -> Comparison:
        """Raises UnknownInteraction."""
        row = one(self._db, "SELECT * FROM comparisons WHERE id = ?", comparison_id)
        if row is None:
            raise unknown_comparison(comparison_id)
        return Comparison(**{**row, "messages": json.loads(row["messages"])})

    def comparisons(self) -> list[Comparison]:
        """Oldest first."""
        rows = self._db.query("SELECT * FROM comparisons ORDER BY id")
        return [Comparison(**{**row, "messages": json.loads(row["messages"])}) for row in rows]

    @contextmanager
    def _forced(self) -> Iterator[None]:
        """A transaction that is on the disk when this returns."""
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with transaction(self._db):
                yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")
