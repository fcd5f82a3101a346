"""What is wrong with a config, in words: `setting: what is wrong, and what would be right`."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

# What other programs, or the flags here, call a setting.
_SHORT = {
    "lr": "learning_rate",
    "name": "adapter",
    "model": "base",
    "from": "continue_from",
    "r": "rank",
}


def problem(fault: Any, known: Collection[str]) -> str:
    """One of pydantic's errors as `setting: what is wrong and what would be right`."""
    name = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "missing":
            return f"{name}: is missing"
        case "extra_forbidden":
            return f"{name}: there is no such setting{_nearest(name, known)}"
        case "value_error":
            text = str(fault["ctx"]["error"])
            return f"{name}: {text}" if name else text
    reason = fault["msg"].removeprefix("Input ")
    return f"{name}: {_shown(fault['input'])} {reason}"


def _nearest(name: str, known: Collection[str]) -> str:
    near = _SHORT.get(name) or next(iter(get_close_matches(name, known, n=1)), None)
    return f"; did you mean {near}?" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
