"""The lint's rules for preference pairs (DPO) and labelled completions (KTO)."""

from collections.abc import Iterator

from train.data.normalise import normalised
from train.data.rows import Message
from train.linting.facts import Facts
from train.linting.findings import Finding

_LENGTH_ROWS = 50
_LENGTH_SHARE = 0.9
_LENGTH_FACTOR = 1.2
_LOPSIDED = 0.05


def same_pair(facts: Facts) -> Iterator[Finding]:
    """Equal in every letter is an error; but for case, marks and spacing, a warning."""
    pairs = [row for row in facts.rows if row.kind == "preference"]
    same = [row for row in pairs if row.completion == row.rejected]
    told = {id(row) for row in same}
    alike = [
        row for row in pairs
        if id(row) not in told and _normalised(row.completion) == _normalised(row.rejected)
    ]  # fmt: skip
    if same:
        reason = "the chosen and the rejected answer are the same: there is nothing to prefer"
        yield Finding("same-pair", "error", reason, tuple(same))
    if alike:
        reason = "the chosen and the rejected answer differ only in case, punctuation or spacing"
        yield Finding("same-pair", "warning", reason, tuple(alike))


def _normalised(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(normalised(message.content), repr(message.tool_calls)) for message in messages]


def one_label(facts: Facts) -> Iterator[Finding]:
    """KTO sets good answers against bad ones; with one of the two it learns nothing it should."""
    labels = [row.label for row in facts.rows if row.label is not None]
    good = sum(labels)
    if labels and good in (0, len(labels)):
        yield Finding(
            "one-label",
            "error",
            f"every label is {str(labels[0]).lower()}: there is nothing to compare with",
        )
    elif labels and min(good, len(labels) - good) < _LOPSIDED * len(labels):
        yield Finding(
            "one-label",
            "warning",
            f"{good} rows are labelled true and {len(labels) - good} false: "
            "too lopsided to compare them",
        )


def length_preference(facts: Facts) -> Iterator[Finding]:
    """The best known way for DPO to go wrong: what it learns is that longer is better."""
    pairs = [row for row in facts.rows if row.kind == "preference"]
    lengths = [(_length(row.completion), _length(row.rejected)) for row in pairs]
    if len(lengths) < _LENGTH_ROWS:
        return
    longer = sum(chosen > _LENGTH_FACTOR * rejected for chosen, rejected in lengths)
    shorter = sum(rejected > _LENGTH_FACTOR * chosen for chosen, rejected in lengths)
    most, word = max((longer, "longer"), (shorter, "shorter"))
    if most >= _LENGTH_SHARE * len(lengths):
        yield Finding(
            "length-preference",
            "warning",
            f"the preferred answer is the {word} one in {most / len(lengths):.0%} of the pairs: "
            "length may be all that is learned",
        )


def _length(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content) for message in messages)
