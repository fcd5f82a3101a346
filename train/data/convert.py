"""Rows into the format that somebody else's tool wants, and an account of what that format lost.

    messages           OpenAI's messages: all that a conversation can have here
    openai             OpenAI's fine-tuning file: the same, as its API checks it
    prompt-completion  TRL's prompt and completion, which alone is learned
    alpaca             instruction, input, output; system and history where a row has them
    sharegpt           conversations of from and value
    dpo, openai-dpo    preference pairs in TRL's columns or in OpenAI's
    kto                labelled completions

Whether something was lost is not believed but checked: every record is read back by the reader of
its shape and compared with the row that it was made from. A row that a format can't hold at all is
left out, and counted as a loss like the others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hub.errors import InvalidData
from train.data.convert_targets import TARGETS, Unfit, with_arguments
from train.data.formats import row_of
from train.data.formats_chat import RowFault
from train.data.formats_shapes import KIND_WORDS, SHAPES, Shape
from train.data.rows import DataSet, Message, Row, listed

Record = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """One kind of thing that the new format does not hold, and the rows that had it."""

    what: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        numbers = [row.number for row in self.rows]
        count = "1 row" if len(numbers) == 1 else f"{len(numbers)} rows"
        return f"{self.what}: {count} ({listed(numbers)})"


@dataclass(frozen=True)
class Converted:
    """The records in the new format, and everything that did not come along."""

    records: tuple[Record, ...]
    losses: tuple[Loss, ...]


def convert(dataset: DataSet, target: str, *, as_text: bool = False) -> Converted:
    """Write every row as a record of the target format (a name of `TARGETS`).

    `as_text` writes prompts and answers as text where the format has both; rows that are more than
    one question and one answer are then left out.

    Raises:
        InvalidData: when the rows are of a kind that the target can't be made from.
    """
    made = TARGETS[target]
    if dataset.kind not in made.kinds:
        wanted = " or ".join(KIND_WORDS[kind] for kind in made.kinds)
        raise InvalidData(
            f"{KIND_WORDS[dataset.kind]} can't become '{target}', which is made from {wanted}",
            where=dataset.source,
            hint="An answer that nobody judged has none that it is better or worse than.",
        )
    shape = next(shape for shape in SHAPES if shape.name == made.shape)
    records: list[Record] = []
    lost: dict[str, list[Row]] = defaultdict(list)
    for row in dataset.rows:
        try:
            written = made.write(row, as_text)
            for what in _losses(row, written, shape):
                lost[what].append(row)
        except (Unfit, RowFault) as reason:
            lost[f"row left out: {reason}"].append(row)
        else:
            records += written
    losses = [Loss(what, tuple(rows)) for what, rows in lost.items()]
    losses += [Loss(f"column `{name}`", dataset.rows) for name in dataset.unused_columns]
    return Converted(tuple(records), tuple(losses))


def _losses(row: Row, written: list[Record], shape: Shape) -> Iterator[str]:
    """What reading the records back does not give again; RowFault where they can't be read."""
    back = [row_of(row.file, row.number, record, shape) for record in written]
    if row.kind != back[0].kind:
        paired = "which two answers were compared" if len(back) > 1 else "the rejected answer"
        yield paired if row.kind == "preference" else "the label"
        row = replace(row, rejected=(), label=None, answer_at=None)
    got = (
        replace(back[0], rejected=(), label=None, answer_at=None) if row.kind == "chat" else back[0]
    )
    yield from _differences(row, got)


def _differences(row: Row, got: Row) -> Iterator[str]:
    pairs = [*zip(row.messages, got.messages, strict=False)]
    pairs += zip(row.rejected, got.rejected, strict=False)
    lengths = (len(row.messages), len(row.rejected), row.answer_at, row.label)
    if lengths != (len(got.messages), len(got.rejected), got.answer_at, got.label):
        yield "parts of the conversation"
        return
    for what, part in _PARTS:
        if any(part(one) != part(other) for one, other in pairs):
            yield what
    if row.kind == "chat" and any(one.learned and not other.learned for one, other in pairs):
        yield "earlier answers are no longer learned"
    if row.kind == "chat" and any(other.learned and not one.learned for one, other in pairs):
        yield "weight 0, so those answers are learned"
    if row.tools != got.tools:
        yield "tools"
    if row.parallel_tool_calls != got.parallel_tool_calls:
        yield "parallel_tool_calls"


_PARTS: tuple[tuple[str, Callable[[Message], object]], ...] = (
    ("parts of the conversation", lambda message: (message.role, message.content)),
    ("names of speakers", lambda message: message.name),
    ("ids of tool calls", lambda message: (
        message.tool_call_id, [call.get("id") for call in message.tool_calls]
    )),
    ("tool calls", lambda message: [
        {"type": "function", **with_arguments(call), "id": None} for call in message.tool_calls
    ]),
    ("that an answer is a refusal", lambda message: message.refusal),
)  # fmt: skip
