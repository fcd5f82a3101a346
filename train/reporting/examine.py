"""What is measured of a finished model for its report: samples, memorisation, forgetting.

Greedy, with bounded numbers of prompts and tokens, and after training has ended, so nothing here
moves a random number that a training would draw.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from train.data.rows import Row
from train.reporting.answering import answers
from train.reporting.forgetting import forgetting, general_passages
from train.reporting.memorisation import Memorised, Repeated, TrainingAnswers, memorised
from train.reporting.samples import MOST_SAMPLES, Sample
from train.templates.tokens import ChatTokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Examined:
    """`facts` go into the lineage and hold no text of the data; the rest stays with the run."""

    facts: dict[str, Any]
    samples: tuple[Sample, ...] = ()
    worst: tuple[Repeated, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The texts, which `facts` leaves out."""
        return {
            "samples": [sample.to_json() for sample in self.samples],
            "repeated": [one.to_json() for one in self.worst],
        }


def examine(
    model: Any, chat: ChatTokenizer, trained: Sequence[Row], unseen: Sequence[Row], prompts: int
) -> Examined:
    """Measure a model whose `disable_adapter()` gives the base.

    `trained` are all rows that were trained on, `unseen` some that were not. At most `prompts` of
    each are answered; with 0 nothing is, and there are neither samples nor memorisation.
    """
    facts: dict[str, Any] = {"forgetting": forgetting(model, chat, general_passages())}
    if prompts == 0:
        return Examined(facts)
    began = time.monotonic()
    training = TrainingAnswers(chat, trained)
    asked = spread(unseen, prompts)
    tuned = answers(model, chat, asked, training.most_new)
    shown = spread(range(len(asked)), MOST_SAMPLES)
    with model.disable_adapter():
        base = answers(model, chat, [asked[at] for at in shown], training.most_new)
    samples = tuple(
        Sample(asked[at], other, tuned[at]) for at, other in zip(shown, base, strict=True)
    )
    sampling = round(time.monotonic() - began, 2)
    found: Memorised = memorised(
        model, chat, training, spread(training.long_rows, prompts), asked, tuned
    )
    facts |= {
        "samples": {"rows": len(samples), "seconds": sampling},
        "memorisation": found.facts,
    }
    return Examined(facts, samples, found.worst)


def spread(things: Sequence[T], most: int) -> list[T]:
    """At most so many, spread over all of them."""
    stride = max(1, -(-len(things) // most))
    return list(things)[::stride][:most]
