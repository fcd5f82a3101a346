"""The one form that all training data is turned into: rows of chat messages, with their origin.

A row remembers its file and its number there, so that every later message about it can name it.
Nothing here reads a file or judges a row: `train.formats` does the one, `train.lint` the other.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hub.manifest import canonical_json

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is '' only where an assistant answers with tool calls alone."""

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The message as OpenAI and chat templates spell it, without what it does not have."""
        facts: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            facts["name"] = self.name
        if self.tool_calls:
            facts["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            facts["tool_call_id"] = self.tool_call_id
        return facts


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation that ends with the answer to learn.

    `number` is the line (JSONL, CSV) or the place in the list (JSON), from 1.
    """

    number: int
    file: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the answer."""
        return self.messages[:-1]

    @property
    def question(self) -> str:
        """The last thing that the user said, for people to recognise the row by."""
        users = [message.content for message in self.prompt if message.role == "user"]
        return users[-1] if users else self.prompt[-1].content

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"messages": [message.to_json() for message in self.messages]}
        if self.tools:
            facts["tools"] = list(self.tools)
        return facts


@dataclass(frozen=True)
class DataSet:
    """Rows in their order. `digest` is the sha256 over their content: file names don't count."""

    name: str
    source: str
    format: str
    rows: tuple[Row, ...]
    unused_columns: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def with_rows(self, rows: Iterable[Row]) -> "DataSet":
        """The same data set with other rows, such as one side of a split."""
        return replace(self, rows=tuple(rows))


def digest_of(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row.to_json()).encode())
        digest.update(b"\n")
    return digest.hexdigest()
