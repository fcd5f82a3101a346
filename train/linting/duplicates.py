"""The lint's rules about rows that repeat: each other, with another answer, or the held-out set."""

import re
from collections import defaultdict
from collections.abc import Iterator

from train.data.near import similar
from train.data.normalise import input_key
from train.data.rows import Message, Row
from train.linting.facts import Facts
from train.linting.findings import Finding, Severity

_NUMBER = re.compile(r"\d+")
_COMPARED = 8  # earlier rows of a question that a row's answer is compared with


def exact_duplicate(facts: Facts) -> Iterator[Finding]:
    copies = facts.first_copies
    if copies:
        yield Finding(
            "exact-duplicate",
            "warning",
            "the same as an earlier row: it counts twice in training",
            tuple(facts.rows[at] for at in copies),
            like=tuple(facts.rows[at] for at in copies.values()),
            fixable=True,
        )


def near_duplicate(facts: Facts) -> Iterator[Finding]:
    """Question and answer are each nearly those of one earlier row (`train.data.near`).

    With other numbers in its answer it is another example: two invoices of one firm, two sums.
    """
    found: dict[int, int] = {}
    for key, places in facts.places_of_input.items():
        before = [at for near in facts.near_inputs[key] for at in facts.places_of_input[near]]
        for place, at in enumerate(places):
            if at not in facts.first_copies:
                earlier = [*places[:place][:_COMPARED], *before[:_COMPARED]]
                like = next((other for other in earlier if _same_answer(facts, at, other)), None)
                if like is not None:
                    found[at] = like
    if found:
        ordered = sorted(found)
        yield Finding(
            "near-duplicate",
            "warning",
            "nearly the same as an earlier row, question and answer",
            tuple(facts.rows[at] for at in ordered),
            like=tuple(facts.rows[found[at]] for at in ordered),
        )


def _same_answer(facts: Facts, at: int, other: int) -> bool:
    if facts.rows[at].label != facts.rows[other].label:
        return False
    if at < other or not similar(facts.answer_keys[at], facts.answer_keys[other]):
        return False
    rows = facts.rows[at], facts.rows[other]
    one, two = (_numbers((*row.completion, *row.rejected)) for row in rows)
    return one == two


def _numbers(messages: tuple[Message, ...]) -> list[str]:
    return [found for message in messages for found in _NUMBER.findall(message.content)]


def conflicting_answers(facts: Facts) -> Iterator[Finding]:
    """Compares questions letter by letter: another number may rightly have another answer."""
    asked: dict[str, list[int]] = defaultdict(list)
    for places in facts.places_of_input.values():
        if len(places) > 1:
            for at in places:
                row = facts.rows[at]
                asked[repr((row.prompt, row.tools))].append(at)
    conflicting = [
        at
        for places in asked.values()
        if len(places) > 1 and _conflict([facts.rows[at] for at in places])
        for at in places
    ]
    if conflicting:
        yield Finding(
            "conflicting-answers",
            "warning",
            "the same question is answered differently: the adapter can learn only the average",
            tuple(facts.rows[at] for at in sorted(conflicting)),
        )


def _conflict(rows: list[Row]) -> bool:
    """Chats: other answers. Pairs: one answer both preferred and rejected. Labels: good and bad."""
    match rows[0].kind:
        case "chat":
            return len({_said(row.completion) for row in rows}) > 1
        case "preference":
            preferred = {_said(row.completion) for row in rows}
            return any(_said(row.rejected) in preferred for row in rows if not _is_same(row))
    good = {_said(row.completion) for row in rows if row.label}
    return any(_said(row.completion) in good for row in rows if not row.label)


def _said(messages: tuple[Message, ...]) -> str:
    # Spelling is `label-spelling`'s business.
    said = (f"{message.content.strip()} {message.tool_calls or ''}" for message in messages)
    return "\x1e".join(said).casefold()


def _is_same(row: Row) -> bool:
    return _said(row.completion) == _said(row.rejected)


def leakage(facts: Facts) -> Iterator[Finding]:
    """The same question is an error. A near one is a warning: it may rightly be another.

    So may one that differs in its numbers.
    """
    if facts.heldout is None:
        return
    held: dict[str, list[Row]] = defaultdict(list)
    for row in facts.heldout.rows:
        held[input_key(row)].append(row)
    same: dict[int, Row] = {}
    near = dict(facts.near_heldout)
    for at, key in enumerate(facts.input_keys):
        if key in held:
            numbers = _numbers(facts.rows[at].prompt)
            equal = [row for row in held[key] if _numbers(row.prompt) == numbers]
            if equal:
                same[at] = equal[0]
            else:
                near[at] = held[key][0]
    name = facts.heldout.name
    yield from _leaked(facts, "error", f"the question is also in the held-out set '{name}'", same)
    reason = f"the question is nearly one of the held-out set '{name}'"
    yield from _leaked(facts, "warning", reason, dict(sorted(near.items())))


def _leaked(
    facts: Facts, severity: Severity, reason: str, found: dict[int, Row]
) -> Iterator[Finding]:
    if found:
        rows = tuple(facts.rows[at] for at in found)
        yield Finding("leakage", severity, reason, rows, like=tuple(found.values()))
