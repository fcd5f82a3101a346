"""The names that are worth a label of their own; all others are `other`.

Prometheus keeps a time series for each value of a label, so a label may only have few values. The
first names each get one; once all are given away, a name takes the place of the quietest of them
when lately it was heard twice as often, and in every hundredth request at least, so that names
that are equally rare don't take turns. What counts as lately is halved at every review, so memory
holds no more names than were heard in the last few of them.
"""

from collections import Counter
from collections.abc import Callable

OTHER = "other"
_REVIEW_EVERY = 1000
_MUCH_LOUDER = 2
_WORTH_A_LABEL = _REVIEW_EVERY // 100


class TopNames:
    """`dropped` hears of every name that has lost its label."""

    def __init__(self, size: int, dropped: Callable[[str], None]) -> None:
        self._size = size
        self._dropped = dropped
        self._kept: set[str] = set()
        self._heard: Counter[str] = Counter()
        self._until_review = _REVIEW_EVERY

    def label(self, name: str) -> str:
        """Count the name once, and say under which label it goes."""
        self._heard[name] += 1
        self._until_review -= 1
        if not self._until_review:
            self._review()
        if name in self._kept:
            return name
        if len(self._kept) < self._size:
            self._kept.add(name)
            return name
        return OTHER

    def _review(self) -> None:
        self._until_review = _REVIEW_EVERY
        loud = [name for name, _ in self._heard.most_common() if name not in self._kept]
        quiet = sorted(self._kept, key=self._heard.__getitem__)
        for newcomer, weakest in zip(loud, quiet, strict=False):
            if self._heard[newcomer] <= max(_MUCH_LOUDER * self._heard[weakest], _WORTH_A_LABEL):
                break
            self._kept.remove(weakest)
            self._kept.add(newcomer)
            self._dropped(weakest)
        self._heard = Counter({name: n // 2 for name, n in self._heard.items() if n > 1})
