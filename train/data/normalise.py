"""When two texts are nearly the same: equal but for case, punctuation, spacing and digits.

One definition, used by the lint (near duplicates, leakage) and by the split, so that what the lint
calls a leak is what the split never makes, but among the rows of a form (`train.data.near`). It
looks at one row at a time, so what it says of a row
does not change when others are added.

Absent on purpose: similarity of texts that differ in words (MinHash).
"""

import re
import unicodedata

from train.data.rows import Message, Row

# In a longer sentence another number is the same example again ("send 50 to Ann on 3 May"). In a
# short one it is the example itself ("what is 12 * 7").
_DIGITS_COUNT_BELOW_WORDS = 6

_NOT_WORD = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")


def normalised(text: str) -> str:
    """A text as it is compared; '' is never returned for a text that says something."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    words = _NOT_WORD.sub(" ", folded.casefold()).strip()
    if not words:
        return text.strip()
    if words.count(" ") + 1 >= _DIGITS_COUNT_BELOW_WORDS:
        return _DIGITS.sub("0", words)
    return words


def input_key(row: Row) -> str:
    """What is asked in a row: every message before the answer, with its role."""
    return _key(row.prompt)


def input_text(row: Row) -> str:
    """As `input_key`, to the letter: other numbers are another question."""
    return "\x1e".join(f"{message.role}\x1f{message.content}" for message in row.prompt)


def _key(messages: tuple[Message, ...]) -> str:
    return "\x1e".join(f"{message.role}\x1f{normalised(message.content)}" for message in messages)
