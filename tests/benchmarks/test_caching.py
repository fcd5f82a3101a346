"""The rules that the benchmark `zipf` holds hit rates against."""

import random
from itertools import product

import pytest

from benchmarks.caching import least_often_used, least_recently_used, optimum

SLOTS = 3


def best_of_all(trace: str, slots: int) -> float:
    """Every choice tried."""

    def hits(at: int, held: frozenset[str]) -> int:
        if at == len(trace):
            return 0
        name = trace[at]
        if name in held:
            return 1 + hits(at + 1, held)
        if len(held) < slots:
            return hits(at + 1, held | {name})
        return max(hits(at + 1, held - {other} | {name}) for other in held)

    return hits(0, frozenset()) / len(trace)


@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_is_what_trying_everything_finds(seed: int) -> None:
    trace = "".join(random.Random(seed).choices("abcdef", [6, 5, 4, 3, 2, 1], k=12))
    assert optimum(trace, SLOTS) == best_of_all(trace, SLOTS)


def test_no_rule_beats_the_optimum_and_every_rule_drops_its_own() -> None:
    """Of `a` and `b` in two slots, one has been used more often, the other more recently."""
    for trace in map("".join, product("abc", repeat=7)):
        best = optimum(trace, 2)
        assert least_recently_used(trace, 2) <= best
        assert least_often_used(trace, 2) <= best
    assert least_recently_used("aabcb", 2) == 2 / 5
    assert least_recently_used("aabca", 2) == 1 / 5
    assert least_often_used("aabca", 2) == 2 / 5
    assert least_often_used("aabcb", 2) == 1 / 5
