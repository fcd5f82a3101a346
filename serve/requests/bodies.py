"""A client's JSON body with some values of its top level replaced, and every other byte its own.

Parsing and writing a body again would lose what a parser does not keep: integers beyond 64 bits,
digits of fractions, spacing. What is nested is passed over, also where it imitates a key of the top
level; a key that is there more than once is replaced each time, since parsers take the last one.
"""

import re
from collections.abc import Iterator, Mapping

import orjson

# In a valid text these are all that changes the depth, and a colon outside strings follows a key.
# The possessive `*+` never steps back: five times as fast where a text is full of escapes.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:\s*+)?|[{}\[\]]', re.DOTALL)
_QUOTE = ord('"')
_LITERAL = re.compile(rb"[^\s,}\]]+")


def with_values(raw: bytes, values: Mapping[str, bytes]) -> bytes:
    """`raw` with the value of each key in `values` replaced by JSON text; missing keys come first.

    `raw` must be a JSON object that a parser has accepted.
    """
    parts: list[bytes] = []
    missing = dict(values)
    at = 0
    for key, start, end in _found(raw, values):
        parts += (raw[at:start], values[key])
        missing.pop(key, None)
        at = end
    parts.append(raw[at:])
    whole = b"".join(parts)
    return _added(whole, missing) if missing else whole


def _added(raw: bytes, values: Mapping[str, bytes]) -> bytes:
    start = raw.index(b"{") + 1
    fields = b",".join(orjson.dumps(key) + b":" + value for key, value in values.items())
    comma = b"" if raw[start:].lstrip().startswith(b"}") else b","
    return raw[:start] + fields + comma + raw[start:]


def _found(raw: bytes, keys: Mapping[str, bytes]) -> Iterator[tuple[str, int, int]]:
    """Each of the keys at the top level, with the place of its value."""
    depth = 0
    opened: tuple[str, int] | None = None  # a key whose value is an object or a list
    for token in _TOKEN.finditer(raw):
        sign = raw[token.start()]
        if sign == _QUOTE:
            if depth == 1 and token[1] and (key := _text(token)) in keys:
                value = token.end()
                if raw[value] in b"{[":
                    opened = (key, value)
                else:
                    yield (key, value, _end_of_plain(raw, value))
        elif sign in b"{[":
            depth += 1
        else:
            depth -= 1
            if depth == 1 and opened is not None:
                yield (*opened, token.end())
                opened = None


def _text(key: "re.Match[bytes]") -> str:
    text = key.string[key.start() : key.start(1)]
    return str(orjson.loads(text)) if b"\\" in text else text[1:-1].decode()


def _end_of_plain(raw: bytes, at: int) -> int:
    """Where a string, number or word ends."""
    match = _TOKEN.match(raw, at) if raw[at] == _QUOTE else _LITERAL.match(raw, at)
    assert match is not None
    return match.end()
