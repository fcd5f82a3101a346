"""From a record in somebody's shape to what a row is made of.

`SHAPES` says by which columns each shape is known, which others it reads, and what reads it:

    openai-dpo         OpenAI's preference files: input, preferred_output, non_preferred_output
    dpo                TRL's preference pairs: chosen, rejected; the prompt beside or inside them
    messages           OpenAI's conversations
    sharegpt           conversations of from and value
    alpaca             instruction, input, output
    kto                TRL's labelled completions: prompt, completion, label
    prompt-completion  prompt, completion; text or messages

Absent on purpose: plain text without turns (`text`), and pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from train.data.formats_chat import (
    Conversation,
    Record,
    RowFault,
    decoded,
    optional_text,
    required_text,
)
from train.data.formats_implicit import implicit_prompt
from train.data.formats_text import kind
from train.data.rows import Kind, Message

ACCEPTED = (
    "Accepted are `messages` (OpenAI), `instruction`/`input`/`output` (Alpaca), "
    "`prompt`/`completion`, `conversations` (ShareGPT), `prompt`/`chosen`/`rejected` or "
    "`input`/`preferred_output`/`non_preferred_output` (DPO), "
    "and `prompt`/`completion`/`label` (KTO)."
)
KIND_WORDS: Mapping[Kind, str] = {
    "chat": "conversations to learn (SFT)",
    "preference": "preference pairs (DPO)",
    "labelled": "labelled completions (KTO)",
}
_LABELS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


@dataclass(slots=True)
class Draft:
    """What a record says, before it is known to be a good row; the fields are `rows.Row`'s."""

    messages: list[Message]
    rejected: list[Message] = field(default_factory=list)
    label: bool | None = None
    answer_at: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True)
class Shape:
    name: str
    kind: Kind
    required: frozenset[str]
    optional: frozenset[str]
    read: Callable[[Record, Conversation], Draft]

    @property
    def columns(self) -> frozenset[str]:
        return self.required | self.optional


def shape_of(record: Record) -> Shape:
    """The shape of a record, by its columns.

    Raises:
        RowFault: naming what was found and what is accepted.
    """
    found = record.keys()
    for shape in SHAPES:
        if shape.required <= found and (shape.kind != "labelled" or _says_so(record["label"])):
            return shape
    columns = ", ".join(f"`{name}`" for name in sorted(found)[:8]) or "none"
    raise RowFault(f"no known shape: the columns are {columns}. {ACCEPTED}")


def shape_of_all(records: Sequence[Record]) -> Shape:
    """The shape of a source, by its first record; raises as `shape_of` does.

    Labels of 0 and 1 make it labelled completions if all its rows have them, but for some that have
    none: those rows are faulty then.
    """
    shape = shape_of(records[0])
    if shape.name == "prompt-completion" and "label" in records[0]:
        labels = [label for record in records if (label := record.get("label")) not in (None, "")]
        if labels and all(map(is_label, labels)):
            return shape_of_kind(records[0], "labelled")
    return shape


def shape_of_kind(record: Record, kind: Kind) -> Shape:
    """The shape of a record that is known to make rows of this kind; raises as `shape_of` does."""
    fitting = (one for one in SHAPES if one.kind == kind and one.required <= record.keys())
    return next(fitting, None) or shape_of(record)


def check(draft: Draft) -> None:
    """What every row must be, whatever its shape was.

    Raises:
        RowFault: when there is nothing to answer, no answer, or nothing to tell two answers by.
    """
    _check_conversation(draft.messages, "the row")
    if draft.answer_at is None:
        if not any(message.learned for message in draft.messages):
            raise RowFault("every answer of the row has weight 0, so nothing of it is trained on")
        return
    if any(message.weight == 0 for message in draft.messages[draft.answer_at :] + draft.rejected):
        raise RowFault("an answer that is compared can't have weight 0")
    if draft.rejected:
        prompt = draft.messages[: draft.answer_at]
        _check_conversation(prompt + draft.rejected, "`rejected`")
        if draft.rejected == draft.messages[draft.answer_at :]:
            raise RowFault("the chosen and the rejected answer are the same")


def _check_conversation(messages: list[Message], what: str) -> None:
    if not messages:
        raise RowFault("the conversation is empty")
    last = messages[-1]
    if last.role != "assistant":
        raise RowFault(f"{what} has no answer: its last message is from '{last.role}'")
    if not last.content.strip() and not last.tool_calls:
        raise RowFault(f"{what} has no answer: it is empty")
    if not any(message.role != "assistant" for message in messages):
        raise RowFault(f"{what} has an answer but nothing that it answers")


def _messages(record: Record, reader: Conversation) -> Draft:
    return Draft(
        reader.chat(record["messages"], "messages"),
        tools=reader.tools(record),
        parallel_tool_calls=_parallel(record, reader),
    )


def _sharegpt(record: Record, reader: Conversation) -> Draft:
    turns = reader.turns(record["conversations"], "conversations")
    return Draft(_system(record) + turns, tools=reader.tools(record))


def _alpaca(record: Record, reader: Conversation) -> Draft:
    asked = _alpaca_prompt(record)
    return Draft([*asked, Message("assistant", _answer(record["output"], "output"))])


def _alpaca_prompt(record: Record) -> list[Message]:
    messages = _system(record)
    history = decoded(record.get("history")) or []
    if not isinstance(history, list):
        raise RowFault(f"`history` must be a list of [question, answer], found {kind(history)}")
    for turn in history:
        if not isinstance(turn, list) or len(turn) != 2:
            raise RowFault("each turn of `history` must be [question, answer]")
        messages.append(Message("user", required_text(turn[0], "history")))
        messages.append(Message("assistant", required_text(turn[1], "history")))
    instruction = required_text(record["instruction"], "instruction")
    given = optional_text(record.get("input"), "input")
    if given and given.strip():
        messages.append(
            Message("user", f"{instruction}\n\n{given}", joined_from=(instruction, given))
        )
    else:
        messages.append(Message("user", instruction))
    return messages


def _prompt_completion(record: Record, reader: Conversation) -> Draft:
    """As in TRL, the completion alone is learned: answers in the prompt get weight 0."""
    asked = [_unlearned(message) for message in _prompt(record, reader)]
    completion = _completion(record["completion"], "completion", reader)
    return Draft(asked + completion, tools=reader.tools(record))


def _kto(record: Record, reader: Conversation) -> Draft:
    asked = _prompt(record, reader)
    completion = _completion(record["completion"], "completion", reader)
    label = record["label"]
    if not is_label(label):
        raise RowFault(f"`label` must be true or false, found {kind(label)}")
    return Draft(
        [_plain(message) for message in asked] + completion,
        label=_LABELS[label.strip().lower() if isinstance(label, str) else label],
        answer_at=len(asked),
        tools=reader.tools(record),
    )


def _dpo(record: Record, reader: Conversation) -> Draft:
    chosen, rejected = _chat_or_text(record["chosen"]), _chat_or_text(record["rejected"])
    if "prompt" not in record and "instruction" not in record:
        asked, good, bad = implicit_prompt(chosen, rejected, reader)
    else:
        asked = _prompt(record, reader) if "prompt" in record else _alpaca_prompt(record)
        good = _after(asked, _completion(chosen, "chosen", reader), "chosen")
        bad = _after(asked, _completion(rejected, "rejected", reader), "rejected")
    return _pair(asked, good, bad, reader.tools(record))


def _openai_dpo(record: Record, reader: Conversation) -> Draft:
    given = decoded(record["input"])
    if not isinstance(given, dict) or "messages" not in given:
        raise RowFault(f"`input` must be an object with messages, found {kind(given)}")
    draft = _pair(
        reader.chat(given["messages"], "input.messages"),
        _completion(record["preferred_output"], "preferred_output", reader),
        _completion(record["non_preferred_output"], "non_preferred_output", reader),
        reader.tools(given),
    )
    draft.parallel_tool_calls = _parallel(given, reader)
    return draft


def _pair(
    asked: list[Message],
    good: list[Message],
    bad: list[Message],
    tools: tuple[dict[str, Any], ...],
) -> Draft:
    if not asked:
        raise RowFault("the pair has no prompt")
    if not bad:
        raise RowFault("`rejected` has no answer: it is empty")
    prompt = [_plain(message) for message in asked]
    return Draft(prompt + good, rejected=bad, answer_at=len(asked), tools=tools)


def _after(asked: list[Message], answer: list[Message], column: str) -> list[Message]:
    """The answer alone, where a column repeats the prompt before it (as UltraFeedback's do)."""
    for prompt in (asked, [message for message in asked if message.role != "system"]):
        if prompt and answer[: len(prompt)] == prompt:
            return answer[len(prompt) :]
    if answer and answer[0].role in ("system", "user"):
        raise RowFault(
            f"`{column}` is a whole conversation, and it does not begin with the prompt; "
            "make them agree, or leave the prompt out"
        )
    return answer


def _prompt(record: Record, reader: Conversation) -> list[Message]:
    prompt = _chat_or_text(record["prompt"])
    if isinstance(prompt, list):
        return _system(record) + reader.chat(prompt, "prompt")
    return [*_system(record), Message("user", required_text(prompt, "prompt"))]


def _completion(value: object, column: str, reader: Conversation) -> list[Message]:
    found = _chat_or_text(value)
    if isinstance(found, list):
        return reader.chat(found, column)
    if isinstance(found, dict):
        return [reader.message(found, column)]
    return [Message("assistant", _answer(found, column))]


def _chat_or_text(value: object) -> object:
    """What a table holds as JSON text, if it is messages; other text in brackets stays text."""
    if not isinstance(value, str) or value[:1] != "[" or '"role"' not in value:
        return value
    found = decoded(value)
    is_chat = isinstance(found, list) and all(
        isinstance(item, dict) and "role" in item for item in found
    )
    return found if is_chat else value


def _system(record: Record) -> list[Message]:
    text = optional_text(record.get("system"), "system")
    return [Message("system", text)] if text else []


def _answer(value: object, column: str) -> str:
    """An answer that is absent is refused by `check`, in the words that fit every shape."""
    return "" if value is None else required_text(value, column)


def _unlearned(message: Message) -> Message:
    return replace(message, weight=0) if message.role == "assistant" else message


def _plain(message: Message) -> Message:
    """Where answers are compared nothing of the prompt is learned, whatever its weights say."""
    return message if message.weight is None else replace(message, weight=None)


def is_label(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _LABELS
    return isinstance(value, int) and value in (0, 1)


def _says_so(label: object) -> bool:
    """True and false can only be KTO's; 0 and 1 may also be classes (`shape_of_all`)."""
    return is_label(label) and str(label).strip() not in ("0", "1")


def _parallel(record: Record, reader: Conversation) -> bool | None:
    value = record.get("parallel_tool_calls")
    if isinstance(value, str):  # a table's cell
        value = {"true": True, "false": False, "": None}.get(value.strip().lower(), value)
    if value is None:
        return None
    if not isinstance(value, bool):
        raise RowFault(f"`parallel_tool_calls` must be true or false, found {kind(value)}")
    reader.translated.add("`parallel_tool_calls` is kept, and no chat template knows it")
    return value


_PROMPTED = frozenset({"system", "tools", "functions"})
SHAPES = (
    Shape(
        "openai-dpo",
        "preference",
        frozenset({"input", "preferred_output", "non_preferred_output"}),
        frozenset(),
        _openai_dpo,
    ),
    Shape(
        "dpo",
        "preference",
        frozenset({"chosen", "rejected"}),
        frozenset({"prompt", "instruction", "input", "history"}) | _PROMPTED,
        _dpo,
    ),
    Shape(
        "messages",
        "chat",
        frozenset({"messages"}),
        frozenset({"tools", "functions", "parallel_tool_calls"}),
        _messages,
    ),
    Shape("sharegpt", "chat", frozenset({"conversations"}), _PROMPTED, _sharegpt),
    Shape(
        "alpaca",
        "chat",
        frozenset({"instruction", "output"}),
        frozenset({"input", "system", "history"}),
        _alpaca,
    ),
    Shape("kto", "labelled", frozenset({"prompt", "completion", "label"}), _PROMPTED, _kto),
    Shape(
        "prompt-completion",
        "chat",
        frozenset({"prompt", "completion"}),
        _PROMPTED,
        _prompt_completion,
    ),
)
