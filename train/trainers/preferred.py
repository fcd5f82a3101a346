"""Does a model prefer the better answers? Log-probabilities of held-out answers, before and after.

"Before" is the reference of the training: the base, or the version that was continued from. With
l the log-probability (nats) that a model gives to a whole answer:

    agreement  pairs: the share in which l(chosen) > l(rejected)
               labelled: the share of good-bad pairs of rows in which l per token is larger for the
               good one, which is the area under the ROC curve; a tie counts a half in both
    margin     mean l(chosen) - l(rejected); of labelled rows, mean l(good) - mean l(bad)
    reward     beta * (l after - l before), DPO's implicit reward (arXiv 2305.18290, section 4);
               its accuracy is the agreement on rewards, its margin beta times the change of margin

Preferring is relative: both answers may have become unlikely, the better one less so, and then the
model says something else altogether. `better` is the mean log-probability a token of the better
answers, and a fall of it is told.

Absent on purpose: what the model says of itself. That takes generation and a judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train.data.rows import Row
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer, Encoded
from train.trainers.loading import load_base, load_tuned
from train.trainers.preference import encode_answer

MOST_ROWS = 500
# Nats a token that the better answers may lose before that is called too much.
_LOST = 0.5


@dataclass(frozen=True)
class Likelihood:
    """An answer's log-probability in nats, and how many tokens it has."""

    total: float
    tokens: int

    @property
    def per_token(self) -> float:
        return self.total / self.tokens


# The answers to compare: (chosen, rejected) of a pair; of a labelled row one of the two.
Answers = list[tuple[Likelihood | None, Likelihood | None]]


def preference_facts(
    before: Answers, after: Answers, *, beta: float, reference: str, measured_on: str
) -> dict[str, Any]:
    """The figures of the module's docstring, for lineage and report."""
    paired = all(one is not None and other is not None for one, other in before)
    rewards = [
        (_reward(then[0], now[0], beta), _reward(then[1], now[1], beta))
        for then, now in zip(before, after, strict=True)
    ]
    margins = [_margin(answers) for answers in (before, after)]
    return {
        "beta": beta,
        "reference": reference,
        "measured_on": measured_on,
        "rows": len(before),
        "agreement_before": _agreement(_scores(before, paired), paired),
        "agreement_after": _agreement(_scores(after, paired), paired),
        "margin_before": margins[0],
        "margin_after": margins[1],
        "better_before": _per_token(before),
        "better_after": _per_token(after),
        "reward_accuracy": _agreement(rewards, paired),
        "reward_margin": beta * (margins[1] - margins[0]),
        "reward_chosen": _mean([one for one, _ in rewards if one is not None]),
        "reward_rejected": _mean([other for _, other in rewards if other is not None]),
    }


def told(facts: dict[str, Any]) -> list[str]:
    """The facts in lines for a person; the second is there where something went wrong."""
    lines = [
        f"prefers the better answer in {facts['agreement_after']:.0%} of {facts['rows']}"
        f" {facts['measured_on']}, {facts['agreement_before']:.0%} before; reward accuracy"
        f" {facts['reward_accuracy']:.0%}, margin {facts['reward_margin']:+.2f}"
    ]
    if facts["better_before"] - facts["better_after"] > _LOST:
        lines.append(
            "warning: the better answers themselves became less likely"
            f" ({facts['better_before']:.2f} to {facts['better_after']:.2f} nats a token), so the"
            " model may answer with neither: lower --learning-rate, or raise --beta"
        )
    return lines


def reference_answers(
    base_source: str, parent: Path | None, rows: Sequence[Row], quantize: str | None
) -> Answers:
    """What the reference gives the rows' answers; loads and forgets a model."""
    model = (
        load_tuned(base_source, parent, quantize=quantize)
        if parent is not None
        else load_base(base_source, quantize=quantize).eval()
    )
    return answers_of(model, ChatTokenizer.load(base_source), rows)


def answers_of(model: Any, chat: ChatTokenizer, rows: Sequence[Row]) -> Answers:
    """The model's log-probabilities of each row's answers, row by row."""
    with quiet(), torch.no_grad():
        return [_answers(model, chat, row) for row in rows]


def few(rows: Sequence[Row]) -> list[Row]:
    """At most 500 of the rows, spread over all of them."""
    stride = max(1, -(-len(rows) // MOST_ROWS))
    return list(rows)[::stride]


def comparable(rows: Sequence[Row]) -> bool:
    """Whether there is something to compare: a pair, or both labels."""
    return any(row.rejected for row in rows) or len({row.label for row in rows}) > 1


def _answers(
    model: Any, chat: ChatTokenizer, row: Row
) -> tuple[Likelihood | None, Likelihood | None]:
    own = _likelihood(model, encode_answer(chat, row, row.completion))
    if row.rejected:
        return own, _likelihood(model, encode_answer(chat, row, row.rejected))
    return (own, None) if row.label else (None, own)


def _likelihood(model: Any, encoded: Encoded) -> Likelihood:
    ids = torch.tensor([encoded.ids], device=model.device)
    logits = model(input_ids=ids).logits[0, :-1].float()
    given = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    marks = torch.tensor(encoded.trained[1:], device=model.device)
    return Likelihood(float(given[marks].sum()), int(marks.sum()))


def _scores(answers: Answers, paired: bool) -> list[tuple[float | None, float | None]]:
    def score(one: Likelihood | None) -> float | None:
        if one is None:
            return None
        return one.total if paired else one.per_token

    return [(score(one), score(other)) for one, other in answers]


def _agreement(scores: Sequence[tuple[float | None, float | None]], paired: bool) -> float:
    if paired:
        compared = [(one, other) for one, other in scores]
    else:
        bad = [other for _, other in scores if other is not None]
        compared = [(one, other) for one, _ in scores if one is not None for other in bad]
    wins = [
        0.5 if one == other else float(one > other)
        for one, other in compared
        if one is not None and other is not None
    ]
    return _mean(wins)


def _per_token(answers: Answers) -> float:
    return _mean([one.per_token for one, _ in answers if one is not None])


def _margin(answers: Answers) -> float:
    good = [one.total for one, _ in answers if one is not None]
    bad = [other.total for _, other in answers if other is not None]
    return _mean(good) - _mean(bad)


def _reward(before: Likelihood | None, after: Likelihood | None, beta: float) -> float | None:
    if before is None or after is None:
        return None
    return beta * (after.total - before.total)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
