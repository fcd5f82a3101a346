"""What a sweep is asked for: `lr`, or `lr=1e-3,5e-3,1e-2`: one setting and the values to try.

Importing this imports no library; running it is `train.sweep`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hub.errors import UsageError

Value = int | float

_OTHER_NAMES = {"lr": "learning_rate"}
_KINDS: dict[str, Callable[[str], Value]] = {
    "learning_rate": float,
    "rank": int,
    "alpha": int,
    "epochs": int,
    "batch_size": int,
    "dropout": float,
}
_FEWEST = 2
_AROUND = 3.0  # a learning rate's neighbours: the size of step that shows on a validation loss
_LEAST_RANK, _MOST_RANK = 8, 64


@dataclass(frozen=True)
class AskedSweep:
    """`key` as the config spells it; no values means: three around the preset's."""

    key: str
    values: tuple[Value, ...] | None


def parse_sweep(text: str) -> AskedSweep:
    """Read `KEY` or `KEY=V1,V2,…`.

    Raises:
        UsageError: for a key that can't be compared by validation loss, or values that are none.
    """
    name, equals, listed = (part.strip() for part in text.partition("="))
    key = _OTHER_NAMES.get(name, name).replace("-", "_")
    if key not in _KINDS:
        why = "changes the loss itself, so that runs can't be compared; " if key == "beta" else ""
        raise UsageError(
            f"--sweep takes no '{name}'",
            hint=f"It {why}one of {', '.join(_KINDS)} can be swept." if why
            else f"One of {', '.join(_KINDS)} can be.",
        )  # fmt: skip
    if not equals:
        if key not in ("learning_rate", "rank"):
            raise UsageError(f"--sweep {name} needs values", hint=f"Such as --sweep {name}=A,B,C.")
        return AskedSweep(key, None)
    values = tuple(dict.fromkeys(_value(key, part.strip()) for part in listed.split(",")))
    if len(values) < _FEWEST:
        raise UsageError(
            "a sweep compares two or more values", hint=f"Such as --sweep {name}=A,B,C."
        )
    return AskedSweep(key, values)


def values_around(key: str, value: Value) -> tuple[Value, ...]:
    """Three values to try, the middle one being the preset's."""
    if key == "rank":
        ranks = (max(_LEAST_RANK, int(value) // 2), int(value), min(_MOST_RANK, int(value) * 2))
        return tuple(sorted(set(ranks)))
    return tuple(float(f"{value * factor:.1e}") for factor in (1 / _AROUND, 1.0, _AROUND))


def _value(key: str, text: str) -> Value:
    try:
        return _KINDS[key](text)
    except ValueError as error:
        kind = "a whole number" if _KINDS[key] is int else "a number"
        raise UsageError(f"--sweep {key}: '{text}' is not {kind}") from error
