"""The lint's rules about tokens, and the statistics of them, under a base's own chat template.

A preference is two conversations, and each of them must fit. What becomes of a row that does not is
`train.linting.overlong`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import quantiles

from hub.errors import InvalidData
from train.data.rows import DataSet, Row
from train.linting.findings import Finding, TokenStatistics
from train.linting.overlong import Overlong, overlong_findings

# (tokens in all, tokens that training learns from) of one row under the base's chat template, and,
# where the counter knows, how many of its answers don't stand as they are served, and so are read
# and not learned.
TokenCounter = Callable[[Row], tuple[int, ...]]

_BUCKETS = 12
_LONG_TAIL = 8  # times the median


@dataclass(frozen=True)
class Counted:
    """Tokens of one row: all, those learned from, and those of its longest conversation."""

    total: int
    trained: int
    longest: int
    unserved: int = 0


def count_rows(
    rows: Sequence[Row], count: TokenCounter, refused: list[tuple[Row, str]] | None = None
) -> list[Counted]:
    """Tokens of each row; a row that the counter refuses goes into `refused`, and counts as none.

    Raises:
        InvalidData: what the counter raises, where there is no `refused`.
    """
    counted = []
    for row in rows:
        try:
            counted.append(_counted(row, count))
        except InvalidData as error:
            if refused is None:
                raise
            refused.append((row, error.message))
            counted.append(Counted(0, 0, 0))
    return counted


def _counted(row: Row, count: TokenCounter) -> Counted:
    total, trained, *unserved = count(row)
    if not row.rejected:
        return Counted(total, trained, total, sum(unserved))
    other = replace(row, messages=(*row.prompt, *row.rejected), rejected=(), answer_at=None)
    also, learned, *_ = count(other)
    # A pair is learned from only where both of its answers are.
    return Counted(total + also, trained + learned if trained and learned else 0, max(total, also))


def token_findings(
    dataset: DataSet,
    counted: Sequence[Counted],
    limit: int | None,
    refused: Sequence[tuple[Row, str]] = (),
    overlong: Overlong = "error",
) -> Iterator[Finding]:
    """`limit` is the most tokens that a conversation may have; `refused` is from `count_rows`."""
    pairs = list(zip(dataset.rows, counted, strict=True))
    reasons: dict[str, list[Row]] = {}
    for row, reason in refused:
        reasons.setdefault(reason, []).append(row)
    for reason, rows in reasons.items():
        yield Finding("not-rendered", "error", reason, tuple(rows))
    told = {id(row) for row, _ in refused}
    if limit is not None:
        long = [(row, tokens) for row, tokens in pairs if tokens.longest > limit]
        yield from overlong_findings(long, limit, overlong)
        if overlong != "error":
            told |= {id(row) for row, _ in long}
    mute = [row for row, tokens in pairs if tokens.trained == 0 and id(row) not in told]
    if mute:
        yield Finding(
            "no-trainable-token",
            "error",
            "the chat template marks nothing of it as the assistant's",
            tuple(mute),
        )
    unserved = [row for row, tokens in pairs if tokens.unserved]
    if unserved:
        yield Finding(
            "unserved-answer",
            "warning",
            "answers that are read and not learned: the base's chat template leaves out their "
            "thoughts, or has something else before them in a prompt",
            tuple(unserved),
        )


def within(counted: Sequence[Counted], limit: int | None, overlong: Overlong) -> list[Counted]:
    """The counts of what is trained on: without the rows left out, and with those cut as cut."""
    if limit is None or overlong == "error":
        return list(counted)
    fit = [tokens for tokens in counted if tokens.longest <= limit]
    if overlong == "truncate":
        fit += [
            replace(tokens, total=limit, longest=limit)
            for tokens in counted
            if tokens.longest > limit and tokens.trained
        ]
    return fit


def statistics(counted: Sequence[Counted], limit: int | None) -> TokenStatistics:
    lengths = sorted(tokens.longest for tokens in counted)
    if not lengths:
        return TokenStatistics(0, 0, 0, limit=limit)
    cuts = quantiles(lengths, n=100, method="inclusive") if len(lengths) > 1 else lengths * 99
    return TokenStatistics(
        total=sum(tokens.total for tokens in counted),
        trained=sum(tokens.trained for tokens in counted),
        longest=lengths[-1],
        shortest=lengths[0],
        median=round(cuts[49]),
        p95=round(cuts[94]),
        limit=limit,
        histogram=histogram(lengths),
    )


def histogram(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """(from, to, rows) of at most 12 buckets: equal ones of a round width, or, where a few rows are
    very much longer than most, each twice as wide as the one before.
    """
    ordered = sorted(lengths)
    if not ordered:
        return ()
    first, last = ordered[0], ordered[-1]
    if last > _LONG_TAIL * max(1, ordered[len(ordered) // 2]):
        edges = [0, 1]
        while edges[-1] <= last:
            edges.append(edges[-1] * 2)
        while len(edges) > _BUCKETS + 1 or edges[1] <= first:
            edges.pop(0)
        edges[0] = min(edges[0], first)
    else:
        width = next(width for width in _round_numbers() if (last - first) // width < _BUCKETS - 1)
        edges = list(range(first // width * width, last + width + 1, width))
    buckets = [(low, high - 1) for low, high in pairwise(edges) if low <= last]
    return tuple((a, b, sum(a <= length <= b for length in ordered)) for a, b in buckets)


def _round_numbers() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, …"""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
