"""What the lint's rules look at: a data set with the keys and texts that several of them compare.

Each is made once, when the first rule asks for it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from train.data.near import near_earlier, near_others
from train.data.normalise import input_key, normalised
from train.data.rows import DataSet, Message, Row


@dataclass(frozen=True)
class Taught:
    """One answer that training would teach. `last` is false for an earlier turn of a chat."""

    row: Row
    message: Message
    last: bool

    @property
    def text(self) -> str:
        return self.message.content


class Facts:
    """`special_tokens` are the base's own; empty where no base is known."""

    def __init__(
        self, dataset: DataSet, heldout: DataSet | None, special_tokens: tuple[str, ...] = ()
    ) -> None:
        self.dataset = dataset
        self.heldout = heldout
        self.special_tokens = special_tokens

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.dataset.rows

    @cached_property
    def taught(self) -> list[Taught]:
        """Every answer that the set would teach: no bad one of a pair, none with weight 0."""
        return [answer for row in self.rows for answer in _taught(row)]

    @cached_property
    def answers(self) -> list[Taught]:
        """The last answer of each row that teaches it, where it says something."""
        return [answer for answer in self.taught if answer.last and answer.text.strip()]

    @cached_property
    def texts(self) -> list[str]:
        """All that is said in a row, the rejected answer included."""
        return [
            "\n".join(message.content for message in (*row.messages, *row.rejected))
            for row in self.rows
        ]

    @cached_property
    def input_keys(self) -> list[str]:
        return [input_key(row) for row in self.rows]

    @cached_property
    def answer_keys(self) -> list[str]:
        """The answer as it is compared, with the rejected one where there is one."""
        return [_answer_key(row) for row in self.rows]

    @cached_property
    def first_copies(self) -> dict[int, int]:
        """Place of a row -> place of the first row that is the same in every letter."""
        first: dict[Hashable, int] = {}
        places = ((at, first.setdefault(identity(row), at)) for at, row in enumerate(self.rows))
        return {at: earlier for at, earlier in places if earlier != at}

    @cached_property
    def places_of_input(self) -> dict[str, list[int]]:
        """Input key -> the places of the rows that have it, keys in their order."""
        places: dict[str, list[int]] = {}
        for at, key in enumerate(self.input_keys):
            places.setdefault(key, []).append(at)
        return places

    @cached_property
    def near_inputs(self) -> dict[str, list[str]]:
        """Input key -> earlier keys that are near it but not equal, most alike first."""
        keys = list(self.places_of_input)
        found = near_earlier(keys)
        return {key: [keys[at] for at in near] for key, near in zip(keys, found, strict=True)}

    @cached_property
    def near_heldout(self) -> dict[int, Row]:
        """Place of a row -> the held-out row whose input is near its own but not equal."""
        if self.heldout is None:
            return {}
        held = {input_key(row): row for row in reversed(self.heldout.rows)}
        keys = [key for key in self.places_of_input if key not in held]
        names = list(held)
        found = zip(keys, near_others(keys, names), strict=True)
        near = {key: held[names[places[0]]] for key, places in found if places}
        return {at: near[key] for at, key in enumerate(self.input_keys) if key in near}


def identity(row: Row) -> Hashable:
    """Equal exactly for rows that hold the same, wherever they stand."""
    facts = (
        row.messages,
        row.tools,
        row.rejected,
        row.label,
        row.answer_at,
        row.parallel_tool_calls,
    )
    try:
        hash(facts)
    except TypeError:  # tools and tool calls are objects
        return repr(facts)
    return facts


def _taught(row: Row) -> list[Taught]:
    if row.kind == "chat":
        last = len(row.messages) - 1
        return [
            Taught(row, message, at == last)
            for at, message in enumerate(row.messages)
            if message.learned
        ]
    if row.label is False:
        return []
    end = row.completion[-1:]
    return [
        Taught(row, message, message is end[0])
        for message in row.completion
        if message.role == "assistant"
    ]


def _answer_key(row: Row) -> str:
    parts = [
        f"{normalised(message.content)}{message.tool_calls or ''}"
        for message in (*row.completion, *row.rejected)
    ]
    return "\x1e".join(parts)
