"""Which questions are nearly the same although their words differ.

Two inputs are near when the Jaccard similarity of their three-word shingles is at least 0.7. In a
question of 15 words that is one word changed, in one of 50 words three. Texts are compared as
`train.data.normalise` has them; the system prompt does not count, because sets share it.

Candidates come from `train.data.near_index`, and each pair is then compared exactly, so nothing is
called near that is not.

Four things that texts do, and what follows:

- *Templates*: shingles that stand in over a tenth of the inputs (and in 20 or more) say nothing of
  which row it is, so they don't count. Without this, all rows under one long instruction would be
  one group.
- *Short inputs* (under 8 words, or with less than that left of a template): near means equal, as
  `train.data.normalise` defines it. "What is 12 * 7" is not near "what is 12 * 8".
- *Forms*: a group of over a tenth of the rows (and of over 20) is one text with other numbers or
  names filled in, as invoices are, and not one row again and again. Held together it would be
  validated on as a whole or not at all, so there a row is near only to those that ask the same to
  the letter.
- *Crowds*: an input that has 8 near ones before it, or over 100 that are half alike, is not offered
  to later inputs. This bounds the work on any data; what is missed is one near input among many.

Importing this module imports no library.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from train.data.near_index import index_of
from train.data.normalise import input_key, input_text
from train.data.rows import Row

if TYPE_CHECKING:
    from train.data.near_index import Shingles

THRESHOLD = 0.7
MIN_WORDS = 8

_COMMON_SHARE, _COMMON_LEAST = 0.1, 20
_CROWD_NEAR, _CROWD_CANDIDATES = 8, 100
# Scripts that don't put spaces between words: each character counts as one.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")
_EDGE = 0x9E3779B9  # stands before the first and after the last word


def near_groups(rows: Sequence[Row]) -> list[str]:
    """For each row the key of its group: rows with equal or near inputs have the same one.

    The key is the `input_key` of the group's first row, so it stays when rows are appended. Where
    an appended row is near two groups, they become one under that of their keys which has the
    higher sha256: with a side chosen by "below a share validates" (`train.data.split`), no row
    moves from training to validation. What can move others is only a template, or a form, that
    becomes common.
    """
    keys = [input_key(row) for row in rows]
    distinct = list(dict.fromkeys(keys))
    group = list(range(len(distinct)))

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    for at, earlier in enumerate(near_earlier(distinct)):
        roots = sorted({root(other) for other in earlier}, key=lambda one: _rank(distinct[one]))
        for other in [*roots, at]:
            if roots:
                group[other] = roots[-1]
    names = {key: distinct[root(at)] for at, key in enumerate(distinct)}
    sizes = Counter(names[key] for key in keys)
    most = max(_COMMON_LEAST, _COMMON_SHARE * len(rows))
    return [
        names[key] if sizes[names[key]] <= most else input_text(row)
        for key, row in zip(keys, rows, strict=True)
    ]


def near_key(rows: Sequence[Row]) -> Callable[[Row], str]:
    """`near_groups` as the key of `train.data.split.split`; for these rows only."""
    groups = dict(zip(map(input_text, rows), near_groups(rows), strict=True))
    return lambda row: groups[input_text(row)]


def near_earlier(keys: Sequence[str]) -> list[list[int]]:
    """For each of some different input keys, the places of earlier ones that are near it."""
    return _search(keys, ())


def near_others(keys: Sequence[str], others: Sequence[str]) -> list[list[int]]:
    """For each input key, the places in `others` that are near it, most alike first."""
    return _search(keys, others)


def similar(first: str, second: str) -> bool:
    """Whether two normalised texts are near: equal, or both long enough and alike in shingles."""
    if first == second:
        return True
    if min(first.count(" "), second.count(" ")) + 1 < MIN_WORDS:
        return False
    one, other = _shingles([first, second])
    return _similarities(one, [other])[0] >= THRESHOLD


def _search(keys: Sequence[str], others: Sequence[str]) -> list[list[int]]:
    """Near places in `others`; where there are none, of earlier keys."""
    texts = [_text(key) for key in (*others, *keys)]
    if sum(text.count(" ") + 1 >= MIN_WORDS for text in texts) < 2:
        return [[] for _ in keys]
    shingles = _telling(_shingles(texts))
    index = index_of(shingles, THRESHOLD)
    found: list[list[int]] = []
    for at, own in enumerate(shingles):
        candidates = index.like(at) if len(own) else []
        near: list[int] = []
        if at >= len(others):
            near = _near(own, candidates, shingles)
            found.append(near)
        offered = at < len(others) if others else len(near) < _CROWD_NEAR
        if len(own) and offered and len(candidates) <= _CROWD_CANDIDATES:
            index.add(at)
    return found


def _near(own: "Shingles", candidates: Sequence[int], shingles: "list[Shingles]") -> list[int]:
    """Those candidates that are near, most alike first."""
    if not candidates:
        return []
    alike = _similarities(own, [shingles[at] for at in candidates])
    pairs = sorted((-share, at) for share, at in zip(alike, candidates, strict=True))
    return [at for share, at in pairs if -share >= THRESHOLD]


def _similarities(own: "Shingles", others: "Sequence[Shingles]") -> list[float]:
    """The Jaccard similarity of one set with each of some others; none of them is empty."""
    import numpy as np

    joined = np.concatenate(others)
    lengths = np.array([len(other) for other in others])
    places = np.minimum(np.searchsorted(own, joined), len(own) - 1)
    shared = np.add.reduceat((own[places] == joined).astype(np.int64), np.cumsum(lengths) - lengths)
    similarities: list[float] = (shared / (len(own) + lengths - shared)).tolist()
    return similarities


def _shingles(texts: Iterable[str]) -> "list[Shingles]":
    """Each text's different shingles as sorted 32-bit hashes; none for a text that is short."""
    import numpy as np

    known: dict[str, int] = {}

    def hashed(word: str) -> int:
        number = known.get(word)
        if number is None:
            number = known[word] = zlib.crc32(word.encode())
        return number

    edges = [_EDGE, _EDGE]
    arrays = []
    for text in texts:
        words = text.split()
        if len(words) < MIN_WORDS:
            arrays.append(np.empty(0, dtype=np.uint32))
            continue
        row = np.array([*edges, *map(hashed, words), *edges], dtype=np.uint32)
        mixed = row[:-2] * np.uint32(0x85EBCA6B) ^ row[1:-1] * np.uint32(0xC2B2AE35) ^ row[2:]
        arrays.append(np.unique(mixed))
    return arrays


def _telling(shingles: "list[Shingles]") -> "list[Shingles]":
    """What is left when templates are taken out; nothing where that can't be near any other."""
    import numpy as np

    lengths = np.array([len(array) for array in shingles])
    _, which, counts = np.unique(np.concatenate(shingles), return_inverse=True, return_counts=True)
    inputs = counts[which]  # in how many inputs each shingle of each input stands
    own = np.repeat(np.arange(len(shingles)), lengths)
    kept = inputs <= max(_COMMON_LEAST - 1, _COMMON_SHARE * len(shingles))
    left = np.bincount(own, weights=kept, minlength=len(shingles))
    shared = np.bincount(own, weights=kept & (inputs > 1), minlength=len(shingles))
    # No more than its shared ones can an input have in common with another. And some of what is
    # left of a template's row are the shingles on its edge.
    hopeful = (left >= MIN_WORDS) & (shared >= THRESHOLD * left)
    none = np.empty(0, dtype=np.uint32)
    masks = np.split(kept, np.cumsum(lengths)[:-1])
    return [
        array[mask] if hope else none
        for array, mask, hope in zip(shingles, masks, hopeful.tolist(), strict=True)
    ]


def _text(key: str) -> str:
    """The words of an input key, without roles and without the system prompt."""
    parts = [part.split("\x1f", 1) for part in key.split("\x1e")]
    said = " ".join(text for role, text in parts if role != "system")
    return said if said.isascii() else _UNSPACED.sub(r" \1 ", said)


def _rank(key: str) -> str:
    """The order of `train.data.split.place`."""
    return sha256(key.encode()).hexdigest()
