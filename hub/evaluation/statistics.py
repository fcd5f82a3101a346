"""Paired statistics for right-or-wrong answers of two arms to the same rows.

Everything here is closed form, so a result never depends on a seed.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two arms on the same `rows`: how often each was right, and the difference tuned - base.

    `smallest` is the smallest difference that this many rows would show.
    `p_value` is McNemar's exact two-sided test.
    """

    rows: int
    base: float
    tuned: float
    base_interval: Interval
    tuned_interval: Interval
    difference: float
    difference_interval: Interval
    only_base: int
    only_tuned: int
    p_value: float
    smallest: float


def compare(base: list[int], tuned: list[int]) -> Paired:
    """Compare two arms, row by row; both lists hold 0 or 1 and have the same length > 0."""
    if len(base) != len(tuned) or not base:
        raise ValueError("paired arms need the same rows, at least one")
    rows = len(base)
    both = sum(b and t for b, t in zip(base, tuned, strict=True))
    only_base = sum(base) - both
    only_tuned = sum(tuned) - both
    neither = rows - both - only_base - only_tuned
    return Paired(
        rows=rows,
        base=sum(base) / rows,
        tuned=sum(tuned) / rows,
        base_interval=wilson(sum(base), rows),
        tuned_interval=wilson(sum(tuned), rows),
        difference=(sum(tuned) - sum(base)) / rows,
        difference_interval=newcombe_paired(both, only_tuned, only_base, neither),
        only_base=only_base,
        only_tuned=only_tuned,
        p_value=mcnemar_exact(only_base, only_tuned),
        smallest=smallest_difference(rows),
    )


def wilson(right: int, rows: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / rows
    centre = share + z * z / (2 * rows)
    spread = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return Interval(max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def newcombe_paired(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of a difference of paired proportions, first - second.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: the two Wilson intervals, squared and
    added, less their correlation. It holds where one arm is always right, as a bootstrap does not.
    """
    rows = both + only_first + only_second + neither
    first, second = (both + only_first) / rows, (both + only_second) / rows
    one, two = (
        wilson(both + only_first, rows, confidence),
        wilson(both + only_second, rows, confidence),
    )
    phi = _correlation(both, only_first, only_second, neither)

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    difference = first - second
    return Interval(
        max(-1.0, difference - reach(first - one.low, two.high - second)),
        min(1.0, difference + reach(one.high - first, second - two.low)),
    )


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Newcombe's phi, with his continuity correction where the association is positive."""
    margins = (
        (both + only_first)
        * (only_second + neither)
        * (both + only_second)
        * (only_first + neither)
    )
    if margins == 0:
        return 0.0
    rows = both + only_first + only_second + neither
    product = both * neither - only_first * only_second
    if product > 0:
        product = max(product - rows / 2, 0)  # type: ignore[assignment]
    return product / math.sqrt(margins)


def mcnemar_exact(only_base: int, only_tuned: int) -> float:
    """McNemar's exact two-sided p-value: a fair coin over the rows on which the arms differ."""
    differing = only_base + only_tuned
    if differing == 0:
        return 1.0
    tail = sum(math.comb(differing, k) for k in range(min(only_base, only_tuned) + 1))
    return float(min(1.0, 2 * tail / 2**differing))


def smallest_difference(rows: int, discordance: float = 0.2, power: float = 0.8) -> float:
    """The smallest difference that `rows` rows show with this power at 5%, two-sided.

    From the normal approximation to McNemar's test (Connor 1987, Biometrics 43:207) with the share
    of rows on which the arms differ assumed to be `discordance`, or the difference if that is more.
    """
    z_alpha = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    z_power = NormalDist().inv_cdf(power)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        share = max(discordance, middle)
        spread = z_alpha * math.sqrt(share) + z_power * math.sqrt(max(0.0, share - middle**2))
        if middle > 0 and (spread / middle) ** 2 <= rows:
            high = middle
        else:
            low = middle
    return high
