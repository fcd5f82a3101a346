"""Metrics: how right is one answer? Each gives 1 or 0, so that differences can be counted.

exact   the answer is the expected text, apart from white space at its ends
label   the tag in square brackets ("[Intent: Fraud Report]") is the expected one; without a tag
        in the expected answer, its first line is the label
json    the answer is a JSON value equal to the expected one
"""

import json
import re
from collections.abc import Callable

from hub.errors import InvalidData

Metric = Callable[[str, str], int]

_TAG = re.compile(r"\[[^\[\]\n]{1,80}\]")


def exact(answer: str, expected: str) -> int:
    return int(answer.strip() == expected.strip())


def label(answer: str, expected: str) -> int:
    return int(_label(answer) == _label(expected))


def json_equal(answer: str, expected: str) -> int:
    try:
        return int(json.loads(answer) == json.loads(expected))
    except ValueError:
        return 0


METRICS: dict[str, Metric] = {"exact": exact, "label": label, "json": json_equal}


def choose_metric(expected: list[str]) -> str:
    """The metric that the expected answers ask for: json or label where all of them allow it.

    Raises:
        InvalidData: when there are no answers.
    """
    if not expected:
        raise InvalidData("there are no rows to evaluate")
    if all(_is_json_container(text) for text in expected):
        return "json"
    if all(_TAG.match(text.strip()) for text in expected):
        return "label"
    return "exact"


def _is_json_container(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _label(text: str) -> str:
    tag = _TAG.search(text)
    found = tag.group()[1:-1] if tag else (text.strip().splitlines() or [""])[0]
    return " ".join(found.split()).casefold()
