"""How a training went, in a sentence: read from the losses alone.

    overfits   validation got worse while training went on, or is several times the training loss
    underfits  validation was still falling at the end, or has hardly fallen at all
    fits       it fell and levelled off
    unknown    nothing was validated, or once only

A training that diverged (`diverged`) has no verdict: it fails, and nothing is made of it.

Absent on purpose: whether the adapter is any good. That takes held-out rows and a server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from train.progress import Point

Kind = Literal["overfits", "underfits", "fits", "unknown"]

# A fall of the last step by less than this share of the loss counts as level.
_LEVEL = 0.02
_TOO_LATE = 1.1
# Validation this many times the training loss, and by so many nats, is a gap worth a word.
_GAP, _GAP_NATS = 2.0, 0.1
# A loss this many times the first one was not made better by training.
_WORSE = 1.25
_FEWEST = 4
# Less of the first training loss than this was taken off by all of the training.
_HARDLY = 0.1


@dataclass(frozen=True)
class Verdict:
    """One word and the sentences that say why, and what to do."""

    kind: Kind
    words: str


def verdict(history: Sequence[Point]) -> Verdict:
    evaluations = [
        (point.epoch, point.validation_loss)
        for point in history
        if point.validation_loss is not None
    ]
    if not evaluations:
        return Verdict(
            "unknown",
            "No rows were kept to validate on, so nothing says whether this adapter generalises. "
            "Set validation to 0.1.",
        )
    losses = [loss for _, loss in evaluations]
    (epoch, best), (last_epoch, last) = min(evaluations, key=lambda one: one[1]), evaluations[-1]
    gap = _gap(history, epoch, best)
    if epoch < last_epoch and last > best * _TOO_LATE:
        return Verdict(
            "overfits",
            f"Validation loss was lowest at epoch {epoch:g} ({best:.3g}) and rose after it, which "
            f"is overfitting; that checkpoint was kept.{gap}",
        )
    if gap:
        return Verdict("overfits", f"{_course(evaluations, epoch, best)}{gap}")
    if len(losses) == 1:
        return Verdict(
            "unknown",
            f"Validation loss is {best:.3g} after one evaluation: too few to see a trend.",
        )
    if hardly := _hardly(history, best):
        return Verdict("underfits", hardly)
    if epoch == last_epoch and losses[-2] - best > _LEVEL * losses[-2] and best > _LEVEL:
        return Verdict(
            "underfits",
            f"Validation loss fell from {losses[0]:.3g} to {best:.3g} and was still falling "
            "at the end: more epochs may help.",
        )
    return Verdict("fits", _course(evaluations, epoch, best))


def diverged(history: Sequence[Point]) -> str | None:
    """What happened, where the losses were well above the first one: all of the last quarter, and,
    of those to validate on, every one."""
    trained = [point.loss for point in history if point.loss is not None]
    if len(trained) < _FEWEST or trained[0] <= _LEVEL:
        return None
    validated = [p.validation_loss for p in history if p.validation_loss is not None]
    if min([*trained[-(len(trained) // 4) :], *validated]) < _WORSE * trained[0]:
        return None
    return (
        f"the training diverged: the loss began at {trained[0]:.3g} and ended at {trained[-1]:.3g},"
        " so the model is worse than before"
    )


def _course(evaluations: Sequence[tuple[float, float]], epoch: float, best: float) -> str:
    first, last_epoch = evaluations[0][1], evaluations[-1][0]
    if epoch < last_epoch:
        return (
            f"Validation loss was lowest at epoch {epoch:g} ({best:.3g}) and did not improve after "
            "it; that checkpoint was kept."
        )
    if len(evaluations) == 1:
        return f"Validation loss is {best:.3g} after one evaluation."
    return f"Validation loss fell from {first:.3g} to {best:.3g} and levelled off."


def _gap(history: Sequence[Point], epoch: float, best: float) -> str:
    """A sentence on a training loss far below the validation loss, of the epoch that was kept."""
    trained = [
        point.loss
        for point in history
        if point.loss is not None and epoch - 1 < point.epoch <= epoch
    ]
    if not trained:
        return ""
    mean = sum(trained) / len(trained)
    if best < _GAP * mean or best - mean < _GAP_NATS:
        return ""
    return (
        f" By then the training loss was {mean:.3g}, far below: it knows the rows that it was "
        "trained on much better than new ones. More rows, fewer epochs or a lower rank close that "
        "gap."
    )


def _hardly(history: Sequence[Point], best: float) -> str:
    """A sentence where training took hardly anything off the loss that it began with."""
    trained = [point.loss for point in history if point.loss is not None]
    if not trained or trained[0] <= _LEVEL or best < (1 - _HARDLY) * trained[0]:
        return ""
    return (
        f"The loss began at {trained[0]:.3g} and validation ended at {best:.3g}: hardly anything "
        "was learned. Raise learning_rate or epochs."
    )
