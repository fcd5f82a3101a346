"""What an adapter costs on text that has nothing to do with its task.

The loss on general text, with the adapter and without, in nats a token. Each passage is read by
both, so the passages' differences are what is judged: their mean, with Student's t interval. The
loss of an arm is the mean over the passages, each counting the same; its exponential is the
perplexity.

The passages (`general.txt`) were written for this project: sixteen of everyday English, one of them
code. They are read as they are, without a chat template. So they show whether the language itself
suffers, not whether single facts or skills were lost: that takes benchmarks of those.

A base that hardly knows such text has little to forget, and then the figures say little: that is
told where its own loss is over half of what guessing among all tokens alike would cost.
"""

import math
import time
from collections.abc import Sequence
from importlib import resources
from statistics import NormalDist, fmean, stdev
from typing import Any

import torch

from hub.evaluation.statistics import CONFIDENCE, Interval
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer

_MOST_TOKENS = 256
_KNOWS_LITTLE = 0.5


def general_passages() -> list[str]:
    """The texts of `general.txt`, which blank lines divide."""
    text = resources.files("train.reporting").joinpath("general.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("\n\n") if passage.strip()]


def forgetting(model: Any, chat: ChatTokenizer, passages: Sequence[str]) -> dict[str, Any]:
    """The module's figures of a model whose `disable_adapter()` gives the base.

    It takes two passages or more. `difference` is tuned - base: above 0 the adapter costs
    something. `telling` says whether the base knows such text well enough for that to mean much.
    """
    began = time.monotonic()
    ids = [_ids(chat, passage, model) for passage in passages]
    with quiet(), torch.no_grad():
        tuned = [_loss(model, one) for one in ids]
        with model.disable_adapter():
            base = [_loss(model, one) for one in ids]
    differences = [after - before for before, after in zip(base, tuned, strict=True)]
    interval = student_interval(differences)
    guessing = math.log(len(chat.tokenizer))
    return {
        "passages": len(passages),
        "tokens": sum(one.shape[1] - 1 for one in ids),
        "base_loss": fmean(base),
        "tuned_loss": fmean(tuned),
        "base_perplexity": math.exp(min(fmean(base), 700)),
        "tuned_perplexity": math.exp(min(fmean(tuned), 700)),
        "difference": fmean(differences),
        "low": interval.low,
        "high": interval.high,
        "confidence": CONFIDENCE,
        "guessing_loss": guessing,
        "telling": fmean(base) <= _KNOWS_LITTLE * guessing,
        "by_passage": [[round(one, 4) for one in pair] for pair in zip(base, tuned, strict=True)],
        "seconds": round(time.monotonic() - began, 2),
    }


def student_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of some independent values, two or more.

    The quantile is expanded from the normal one (Abramowitz and Stegun, 26.7.5), which is right to
    three digits from 8 values on and too narrow below 5.
    """
    z, free = NormalDist().inv_cdf((1 + confidence) / 2), len(values) - 1
    t = z + sum(
        polynomial / (divisor * free**power)
        for power, divisor, polynomial in (
            (1, 4, z**3 + z),
            (2, 96, 5 * z**5 + 16 * z**3 + 3 * z),
            (3, 384, 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z),
        )
    )
    half = t * stdev(values) / math.sqrt(len(values))
    return Interval(fmean(values) - half, fmean(values) + half)


def _ids(chat: ChatTokenizer, passage: str, model: Any) -> torch.Tensor:
    """(1, tokens), with what the tokenizer itself puts first, cut to what the base can read."""
    ids = chat.tokenizer(passage, return_tensors="pt")["input_ids"]
    room = getattr(model.config, "max_position_embeddings", None) or _MOST_TOKENS
    return torch.as_tensor(ids[:, : min(room, _MOST_TOKENS)]).to(model.device)


def _loss(model: Any, ids: torch.Tensor) -> float:
    logits = model(input_ids=ids).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
