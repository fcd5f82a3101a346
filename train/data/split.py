"""Divide rows into training and validation by hash, so that the division is stable and never leaks.

Rows are grouped by what is asked, normalised (`train.data.normalise`), and a group goes to one side
as a whole. A group's place is a number in [0, 1) made from the sha256 of its key: below
`validation` it validates. So a row's side depends on its own text alone, and adding rows moves none
of the others.

Two exceptions keep small sets usable, and depend on the other rows:

- From 8 rows on, the group with the lowest number always validates, so there is at least one row to
  validate on. When rows are added that go lower, it returns to training. No row ever moves from
  training to validation by this: what was trained on is never measured on.
- The group with the highest number always trains. A set of one group is all training.

The share of validation rows is therefore near `validation`, not equal to it.
"""

import hashlib
from collections.abc import Callable

from hub.errors import InvalidConfig
from train.data.normalise import input_key
from train.data.rows import DataSet, Row

MIN_ROWS = 8


def split(
    dataset: DataSet, *, validation: float, key: Callable[[Row], str] = input_key
) -> tuple[DataSet, DataSet]:
    """The training and the validation rows, each in their order.

    Rows of the same `key` stay together. `train.data.near.near_key` groups near duplicates: rows
    that are added may join two groups, which moves rows to training but never the other way.

    Raises:
        InvalidConfig: when `validation` is not a share from 0 to 0.5.
    """
    if not 0 <= validation <= 0.5:
        raise InvalidConfig([f"validation: {validation} is not a share from 0 to 0.5"])
    places = [place(key(row)) for row in dataset.rows]
    chosen = {value for value in places if value < validation}
    if validation > 0 and len(dataset) >= MIN_ROWS:
        chosen.add(min(places))
    chosen.discard(max(places, default=0.0))
    sides = [(row, value in chosen) for row, value in zip(dataset.rows, places, strict=True)]
    return (
        dataset.with_rows(row for row, validates in sides if not validates),
        dataset.with_rows(row for row, validates in sides if validates),
    )


def place(key: str) -> float:
    """A group's number in [0, 1), from the first 52 bits of its key's sha256."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:13], 16) / 2**52
