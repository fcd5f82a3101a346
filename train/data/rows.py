"""The one form that all training data is turned into: rows of chat messages, with their origin.

A row is one of three kinds, and a data set holds rows of one kind only:

    chat        a conversation; its answers are learned (SFT)
    preference  a prompt, the answer that is preferred and the one that is not (DPO)
    labelled    a prompt, an answer, and whether that answer is good (KTO)

A row remembers its file and its number there, so that every later message about it can name it.
Nothing here reads a file or judges a row: `train.data.formats` does the one, `train.linting.lint`
the other.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hub.manifest import canonical_json

ROLES = ("system", "user", "assistant", "tool")

Kind = Literal["chat", "preference", "labelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is '' only where an assistant answers with tool calls alone.

    `weight` is OpenAI's, on an assistant's turn: 0 is read but not learned; 1 and None are the
    same. A turn with `refusal` is one that OpenAI's files hold under that name; its text is
    `content` here. `joined_from` are the texts that `content` was made of, where a format has them
    apart (Alpaca); for writing them so again, and for nothing else.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    weight: int | None = None
    refusal: bool = False
    joined_from: tuple[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def learned(self) -> bool:
        """Whether a chat trains on this turn."""
        return self.role == "assistant" and self.weight != 0

    def to_json(self) -> dict[str, Any]:
        """The message as OpenAI and chat templates spell it, without what it does not have."""
        facts: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.refusal:
            facts |= {"content": None, "refusal": self.content}
        if self.name is not None:
            facts["name"] = self.name
        if self.tool_calls:
            facts["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            facts["tool_call_id"] = self.tool_call_id
        if self.weight is not None:
            facts["weight"] = self.weight
        return facts


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation that ends with an answer.

    `number` is the line (JSONL, CSV) or the place in the list (JSON, Parquet, a data set's name),
    from 1. `messages` is the whole conversation; of a preference it is the one with the preferred
    answer, and `rejected` holds the other. In the kinds that compare answers, the answer begins
    with `messages[answer_at]`; a chat leaves that open.
    """

    number: int
    file: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    rejected: tuple[Message, ...] = ()
    label: bool | None = None
    answer_at: int | None = None
    parallel_tool_calls: bool | None = None

    @property
    def kind(self) -> Kind:
        if self.rejected:
            return "preference"
        return "chat" if self.label is None else "labelled"

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the answer."""
        return self.messages[: -1 if self.answer_at is None else self.answer_at]

    @property
    def completion(self) -> tuple[Message, ...]:
        """The answer, which may call tools on its way and so be several messages."""
        return self.messages[-1 if self.answer_at is None else self.answer_at :]

    @property
    def question(self) -> str:
        """The last thing that the user said, for people to recognise the row by."""
        users = [message.content for message in self.prompt if message.role == "user"]
        return users[-1] if users else self.prompt[-1].content

    def to_json(self) -> dict[str, Any]:
        """The canonical form of its kind: OpenAI's messages, or TRL's columns of such messages."""
        facts: dict[str, Any]
        if self.kind == "chat":
            facts = {"messages": spelled(self.messages)}
        elif self.kind == "preference":
            facts = {
                "prompt": spelled(self.prompt),
                "chosen": spelled(self.completion),
                "rejected": spelled(self.rejected),
            }
        else:
            facts = {
                "prompt": spelled(self.prompt),
                "completion": spelled(self.completion),
                "label": self.label,
            }
        if self.tools:
            facts["tools"] = list(self.tools)
        if self.parallel_tool_calls is not None:
            facts["parallel_tool_calls"] = self.parallel_tool_calls
        return facts


def listed(numbers: Sequence[int], most: int = 5) -> str:
    """Row numbers for a message: the first few, and how many more there are."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown


def spelled(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [message.to_json() for message in messages]


@dataclass(frozen=True)
class DataSet:
    """Rows in their order. `digest` is the sha256 over their content: file names don't count.

    `unused_columns` were read past; `translated` says what was read under another name than the
    file has it (such as OpenAI's `functions`, read as tools), with the number of rows.
    """

    name: str
    source: str
    format: str
    rows: tuple[Row, ...]
    unused_columns: tuple[str, ...] = ()
    translated: tuple[tuple[str, int], ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> Kind:
        """What kind its rows are; `train.data.formats` lets no two into one set."""
        return self.rows[0].kind if self.rows else "chat"

    def with_rows(self, rows: Iterable[Row]) -> "DataSet":
        """The same data set with other rows, such as one side of a split."""
        return replace(self, rows=tuple(rows))


def digest_of(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row.to_json()).encode())
        digest.update(b"\n")
    return digest.hexdigest()
