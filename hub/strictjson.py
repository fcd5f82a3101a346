"""JSON from strangers: only what can be written again, everywhere that Loom writes it.

Python's own reader takes NaN, infinities (1e999), halves of surrogate pairs, integers of any length
and any depth. None of these gets into a database, into UTF-8 or through another JSON library.
"""

import json
from typing import Any

# Far above what any lineage has, and below what every JSON library writes.
_DEEPEST = 64
_BITS = 63


def read_json(text: str) -> Any:
    """Raises ValueError (RecursionError where it is nested without end) with what is wrong."""
    value = json.loads(text)
    require_plain(value)
    return value


def require_plain(value: object, depth: int = 0) -> None:
    """Raises ValueError, saying why, for what JSON can't hold or another library can't write."""
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        if not is_unicode(value):
            raise ValueError("text that is not valid Unicode")
    elif isinstance(value, int):
        if value.bit_length() > _BITS:
            raise ValueError("an integer of more than 64 bits")
    elif isinstance(value, float):
        if value - value != 0:
            raise ValueError("a number that is not finite")
    elif isinstance(value, dict):
        for key, part in value.items():
            require_plain(key, depth + 1)
            require_plain(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            require_plain(part, depth + 1)


def is_unicode(text: str) -> bool:
    """False for half a surrogate pair: a byte of the command line that was no UTF-8, say."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
