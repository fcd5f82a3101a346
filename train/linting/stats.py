"""A data set in figures: how many rows, who speaks, how long things are.

Lengths are in characters, because they need no base; tokens under a base's chat template are
`train.linting.tokens`'s business and are joined here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median, quantiles
from typing import Any

from train.data.rows import DataSet, Message, Row
from train.linting.findings import TokenStatistics
from train.linting.tokens import TokenCounter, count_rows, statistics


@dataclass(frozen=True)
class Spread:
    """Some numbers' least, median, mean, 95th percentile, most and sum."""

    least: int
    median: float
    mean: float
    p95: float
    most: int
    total: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Spread":
        high = quantiles(numbers, n=20, method="inclusive")[-1] if len(numbers) > 1 else numbers[0]
        return cls(
            min(numbers),
            median(numbers),
            round(mean(numbers), 1),
            round(high, 1),
            max(numbers),
            sum(numbers),
        )


@dataclass(frozen=True)
class Stats:
    """`messages` counts turns by role; `spreads` holds what varies from row to row, by name.

    `features` counts the rows that have something (tools, calls, a system message, weights, a label
    of each sort); what no row has is not in it.
    """

    name: str
    format: str
    kind: str
    digest: str
    rows: int
    messages: dict[str, int]
    features: dict[str, int]
    spreads: dict[str, Spread]
    unused_columns: tuple[str, ...]
    tokens: TokenStatistics | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "unused_columns": list(self.unused_columns),
            "tokens": self.tokens.to_json() if self.tokens else None,
        }


def stats(
    dataset: DataSet, *, count_tokens: TokenCounter | None = None, limit: int | None = None
) -> Stats:
    """Figures of a data set with at least one row; `limit` is the most tokens that a row may have.

    Raises:
        InvalidData: when a row holds what the base's chat template can't show
        (`train.templates.tokens`).
    """
    rows = dataset.rows
    roles = Counter(message.role for row in rows for message in (*row.messages, *row.rejected))
    features = Counter(name for row in rows for name in _features(row))
    spreads = {
        "turns": Spread.of([len(row.messages) for row in rows]),
        "prompt": Spread.of([_characters(row.prompt) for row in rows]),
        "answer": Spread.of([_characters(row.completion) for row in rows]),
    }
    if dataset.kind == "preference":
        spreads["rejected"] = Spread.of([_characters(row.rejected) for row in rows])
    tokens = None
    if count_tokens is not None:
        tokens = statistics(count_rows(rows, count_tokens), limit)
    return Stats(
        name=dataset.name,
        format=dataset.format,
        kind=dataset.kind,
        digest=dataset.digest,
        rows=len(rows),
        messages=dict(roles.most_common()),
        features=dict(features.most_common()),
        spreads=spreads,
        unused_columns=dataset.unused_columns,
        tokens=tokens,
    )


def _features(row: Row) -> Iterable[str]:
    every = (*row.messages, *row.rejected)
    if row.messages[0].role == "system":
        yield "with a system message"
    if sum(message.role == "user" for message in row.messages) > 1:
        yield "with several questions"
    if row.tools:
        yield "with tools"
    if any(message.tool_calls for message in every):
        yield "with tool calls"
    if any(message.weight == 0 for message in every):
        yield "with answers of weight 0"
    if row.label is not None:
        yield "labelled as good" if row.label else "labelled as not good"


def _characters(messages: Iterable[Message]) -> int:
    return sum(len(message.content) for message in messages)
