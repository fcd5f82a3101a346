"""How a training went, in a sentence: read from the validation losses alone.

Absent on purpose: whether the adapter is any good. That takes held-out rows and a server.
"""

from collections.abc import Sequence

from train.progress import Point

# A fall of the last step by less than this share of the loss counts as level.
_LEVEL = 0.02
_TOO_LATE = 1.1


def verdict(history: Sequence[Point]) -> str:
    losses = [
        (point.epoch, point.validation_loss)
        for point in history
        if point.validation_loss is not None
    ]
    if not losses:
        return (
            "No rows were kept to validate on, so nothing says whether this adapter generalises. "
            "Set validation to 0.1."
        )
    epoch, best = min(losses, key=lambda entry: entry[1])
    last = losses[-1][1]
    if epoch < losses[-1][0]:
        rise = (
            "and rose after it, which is overfitting"
            if last > best * _TOO_LATE
            else "and did not improve after it"
        )
        return (
            f"Validation loss was lowest at epoch {epoch:g} ({best:.3f}) {rise}; "
            "that checkpoint was kept."
        )
    if len(losses) == 1:
        return f"Validation loss is {best:.3f} after one evaluation: too few to see a trend."
    before = losses[-2][1]
    if before - best > _LEVEL * before and best > _LEVEL:
        return (
            f"Validation loss fell from {losses[0][1]:.3f} to {best:.3f} and was still falling "
            "at the end: more epochs may help."
        )
    return f"Validation loss fell from {losses[0][1]:.3f} to {best:.3f} and levelled off."
