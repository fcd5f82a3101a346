"""The longest stretch that an output has verbatim in common with any training answer, in tokens.

The outputs are few and short, the answers may be millions of tokens: so the index is over the
outputs' windows of 16 tokens, and the answers pass by once. Memory does not grow with them but for
one number a different answer. Windows are compared by a polynomial hash, each hit token by token,
so nothing is called equal that is not.

A window that stands in 8 or more answers is `common`: it is the task's own wording (a greeting, a
label's text), is not followed further, and counts as shared. So does whatever of a stretch stands
in another answer too, in an answer that several rows have, or in the prompt, from which it may have
been copied. What is left is the stretch's `own`: it can only have come from that one row.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Tokens = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

WINDOW = 16
COMMON = 8
_MOST_PLACES = 32  # of one window in the outputs: a loop has it at every step
_MULTIPLIER = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Overlap:
    """Tokens `start` to `end` of an output are those of the answer at place `answer`.

    `own` counts those of them that stand in no other row; `whole` says that the output is that
    answer from end to end, and that no other row has it.
    """

    answer: int
    start: int
    end: int
    own: int
    whole: bool

    @property
    def tokens(self) -> int:
        return self.end - self.start


@dataclass
class _Hit:
    answer: int
    start: int
    end: int
    whole: bool


def longest_overlaps(
    outputs: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    answers: Iterable[Sequence[int]],
) -> list[Overlap | None]:
    """For each output the overlap with the most own tokens, then the longest; None under 16 tokens.

    `prompts` are those that the outputs answer. `answers` is read once.
    """
    search = _Search([_array(tokens) for tokens in outputs])
    seen: dict[bytes, int] = {}
    for place, tokens in enumerate(answers):
        if len(tokens) >= WINDOW:
            answer = _array(tokens)
            digest = blake2b(answer.tobytes(), digest_size=16).digest()
            search.look(seen.setdefault(digest, place), answer)
    return [
        search.best(at, _array(prompt)) if len(outputs[at]) >= WINDOW else None
        for at, prompt in enumerate(prompts)
    ]


class _Search:
    def __init__(self, outputs: list["Tokens"]) -> None:
        self._outputs = outputs
        places: dict[int, list[tuple[int, int]]] = {}
        for at, tokens in enumerate(outputs):
            for start, hashed in enumerate(_hashes(tokens).tolist()):
                here = places.setdefault(hashed, [])
                if len(here) < _MOST_PLACES:
                    here.append((at, start))
        self._known = np.array(sorted(places), dtype=np.uint64)
        self._places = [places[hashed] for hashed in self._known.tolist()]
        self._met = np.zeros(len(self._known), dtype=np.int64)
        self._hits: list[list[_Hit]] = [[] for _ in outputs]
        self._rows: Counter[int] = Counter()

    def look(self, place: int, answer: "Tokens") -> None:
        """Compare an answer with all outputs; one that came before under its place counts again."""
        self._rows[place] += 1
        if not len(self._known):
            return
        hashes = _hashes(answer)
        found = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        starts = np.flatnonzero((self._known[found] == hashes) & (self._met[found] < COMMON))
        if not len(starts):
            return
        self._met[np.unique(found[starts])] += 1
        if self._rows[place] > 1:
            return
        reached: dict[tuple[int, int], int] = {}
        for start in starts.tolist():
            for output, at in self._places[found[start]]:
                if reached.get((output, at - start), 0) <= at:
                    reached[output, at - start] = self._follow(output, at, place, answer, start)

    def _follow(self, output: int, at: int, place: int, answer: "Tokens", start: int) -> int:
        """Widen a window to both sides as far as both agree; its end in the output."""
        tokens = self._outputs[output]
        if not np.array_equal(tokens[at : at + WINDOW], answer[start : start + WINDOW]):
            return at  # the same hash by chance
        first, last = at, at + WINDOW
        shift = start - at
        while first and first + shift and tokens[first - 1] == answer[first + shift - 1]:
            first -= 1
        while (
            last < len(tokens)
            and last + shift < len(answer)
            and tokens[last] == answer[last + shift]
        ):
            last += 1
        whole = last - first == len(tokens) == len(answer)
        self._hits[output].append(_Hit(place, first, last, whole))
        return last

    def best(self, at: int, prompt: "Tokens") -> Overlap | None:
        hits = self._hits[at]
        if not hits:
            return None
        others = self._others(at, prompt)
        by_answer: dict[int, Tokens] = {}
        for hit in hits:
            covered = by_answer.setdefault(hit.answer, np.zeros_like(others))
            covered[hit.start : hit.end] = self._rows[hit.answer]
        everywhere = others + sum(by_answer.values())
        found = [
            Overlap(
                hit.answer,
                hit.start,
                hit.end,
                int((everywhere[hit.start : hit.end] == 1).sum()),
                hit.whole and self._rows[hit.answer] == 1,
            )
            for hit in hits
        ]
        return max(found, key=lambda one: (one.own, one.tokens))

    def _others(self, at: int, prompt: "Tokens") -> "Tokens":
        """For each token of an output how many rows it stands in beyond the hits: 0, or enough."""
        tokens = self._outputs[at]
        own = _hashes(tokens)
        common = self._met[np.searchsorted(self._known, own)] >= COMMON
        copied = np.isin(own, _hashes(prompt))
        covered = np.zeros(len(tokens), dtype=np.int64)
        for start in np.flatnonzero(common | copied).tolist():
            covered[start : start + WINDOW] = COMMON
        return covered


def _hashes(tokens: "Tokens") -> "Hashes":
    """A 64-bit hash of each window of 16 tokens, in their order; none for fewer tokens."""
    if len(tokens) < WINDOW:
        return np.empty(0, dtype=np.uint64)
    values = tokens.astype(np.uint64) + np.uint64(1)
    hashes = np.zeros(len(tokens) - WINDOW + 1, dtype=np.uint64)
    for at in range(WINDOW):
        hashes *= np.uint64(_MULTIPLIER)
        hashes += values[at : at + len(hashes)]
    return hashes


def _array(tokens: Sequence[int]) -> "Tokens":
    return np.asarray(tokens, dtype=np.int64)
