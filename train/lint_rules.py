"""The lint's rules, each a function from the facts of a data set to its findings.

A rule of its own file: spellings of labels (`lint_labels`) and personal data (`lint_pii`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from train.findings import Finding
from train.lint_labels import label_spelling
from train.lint_pii import personal_data
from train.normalise import input_key, row_key
from train.rows import DataSet, Row

MIN_ROWS = 8
FEW_ROWS = 50
_PLACEHOLDERS = frozenset({"todo", "tbd", "xxx", "...", "…", "-", "--"})
# What a finished answer ends with: closing punctuation, brackets, quotes, or a symbol (emoji).
_UNFINISHED = re.compile(r"[\w,;–—-]$")
_MOSTLY = 0.8


class Facts:
    """A data set with the keys that several rules compare, made once."""

    def __init__(self, dataset: DataSet, heldout: DataSet | None) -> None:
        self.dataset = dataset
        self.heldout = heldout

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.dataset.rows

    @cached_property
    def input_keys(self) -> list[str]:
        return [input_key(row) for row in self.rows]

    @cached_property
    def row_keys(self) -> list[str]:
        return [row_key(row) for row in self.rows]

    @cached_property
    def exact_copies(self) -> dict[int, int]:
        """Place of a row -> place of the first row with the same messages and tools."""
        return _repeats([repr((row.messages, row.tools)) for row in self.rows])


Rule = Callable[[Facts], Iterator[Finding]]


def too_few_rows(facts: Facts) -> Iterator[Finding]:
    count = len(facts.rows)
    if count < MIN_ROWS:
        yield Finding(
            "too-few-rows",
            "error",
            f"{count} row{'' if count == 1 else 's'}; at least {MIN_ROWS} are needed, "
            f"and {FEW_ROWS} or more for a result to be expected",
        )
    elif count < FEW_ROWS:
        yield Finding(
            "too-few-rows",
            "warning",
            f"{count} rows; below {FEW_ROWS} the adapter rarely does better than a good prompt",
        )


def empty_answer(facts: Facts) -> Iterator[Finding]:
    blank = [row for row in facts.rows if _has_blank_turn(row)]
    if blank:
        yield Finding("empty-answer", "error", "an assistant's turn says nothing", tuple(blank))
    stubs = [row for row in facts.rows if row.answer.strip().casefold() in _PLACEHOLDERS]
    if stubs:
        yield Finding(
            "empty-answer", "warning", "the answer is a placeholder, not an answer", tuple(stubs)
        )


def _has_blank_turn(row: Row) -> bool:
    return any(
        message.role == "assistant" and not message.content.strip() and not message.tool_calls
        for message in row.messages
    )


def exact_duplicate(facts: Facts) -> Iterator[Finding]:
    copies = [facts.rows[place] for place in facts.exact_copies]
    if copies:
        yield Finding(
            "exact-duplicate",
            "warning",
            "the same as an earlier row: it counts twice in training",
            tuple(copies),
        )


def near_duplicate(facts: Facts) -> Iterator[Finding]:
    exact = facts.exact_copies
    near = [facts.rows[at] for at in _repeats(facts.row_keys) if at not in exact]
    if near:
        yield Finding(
            "near-duplicate",
            "warning",
            "differs from an earlier row only in case, punctuation, spacing or digits",
            tuple(near),
        )


def conflicting_answers(facts: Facts) -> Iterator[Finding]:
    """Compares questions letter by letter: another number may rightly have another answer."""
    answers: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(facts.rows):
        answers[repr((row.prompt, row.tools))].append(place)
    conflicting = [
        place
        for places in answers.values()
        if len({_answer_key(facts.rows[place]) for place in places}) > 1
        for place in places
    ]
    if conflicting:
        yield Finding(
            "conflicting-answers",
            "warning",
            "the same question is answered differently: the adapter can learn only the average",
            tuple(facts.rows[place] for place in sorted(conflicting)),
        )


def _answer_key(row: Row) -> str:
    # Spelling is `label-spelling`'s business.
    return f"{row.answer.casefold().strip()} {row.messages[-1].tool_calls}"


def leakage(facts: Facts) -> Iterator[Finding]:
    if facts.heldout is None:
        return
    held = {input_key(row) for row in facts.heldout.rows}
    leaked = [row for row, key in zip(facts.rows, facts.input_keys, strict=True) if key in held]
    if leaked:
        yield Finding(
            "leakage",
            "error",
            f"the question is also in the held-out set '{facts.heldout.name}'",
            tuple(leaked),
        )


def truncated_answer(facts: Facts) -> Iterator[Finding]:
    texts = [row.answer.rstrip() for row in facts.rows]
    cut = [row for row, text in zip(facts.rows, texts, strict=True) if _UNFINISHED.search(text)]
    if cut and len(cut) <= (1 - _MOSTLY) * len(texts):
        yield Finding(
            "truncated-answer",
            "warning",
            "the answer stops without punctuation, where most end with it: it looks cut off",
            tuple(cut),
        )


def labels(facts: Facts) -> Iterator[Finding]:
    yield from label_spelling(facts.rows)


def pii(facts: Facts) -> Iterator[Finding]:
    yield from personal_data(facts.rows)


def unused_column(facts: Facts) -> Iterator[Finding]:
    if facts.dataset.unused_columns:
        names = ", ".join(f"`{name}`" for name in facts.dataset.unused_columns[:8])
        yield Finding("unused-column", "info", f"not read as part of a conversation: {names}")


def token_findings(
    dataset: DataSet, counted: Sequence[tuple[int, int]], max_length: int | None
) -> Iterator[Finding]:
    """The rules about tokens; `counted` holds (all, trained on) of each row."""
    rows = dataset.rows
    long = [
        row
        for row, (total, _) in zip(rows, counted, strict=True)
        if max_length is not None and total > max_length
    ]
    if long:
        most = max(total for total, _ in counted)
        yield Finding(
            "overlong",
            "error",
            f"longer than {max_length} tokens (the longest has {most}): its answer would be cut",
            tuple(long),
        )
    mute = [row for row, (_, trained) in zip(rows, counted, strict=True) if trained == 0]
    if mute:
        yield Finding(
            "no-trainable-token",
            "error",
            "the chat template marks nothing of it as the assistant's",
            tuple(mute),
        )


def _repeats(keys: Sequence[str]) -> dict[int, int]:
    """Place of every key that occurred before -> the place where it first did."""
    first: dict[str, int] = {}
    repeats: dict[int, int] = {}
    for place, key in enumerate(keys):
        earlier = first.setdefault(key, place)
        if earlier != place:
            repeats[place] = earlier
    return repeats


RULES: tuple[Rule, ...] = (
    too_few_rows,
    empty_answer,
    leakage,
    conflicting_answers,
    labels,
    exact_duplicate,
    near_duplicate,
    truncated_answer,
    pii,
    unused_column,
)
