"""The lint's rule about personal data: e-mail addresses, telephone numbers, payment card numbers.

An adapter may repeat what it was trained on, so these deserve a decision. Numbers and addresses
that are reserved for examples (example.com, 555-01xx) are left alone.

Absent on purpose: names and postal addresses, which patterns cannot tell from other words.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from train.findings import Finding, Severity
from train.rows import Row

_EMAIL = re.compile(r"[\w.+-]{1,64}@((?:[\w-]{1,63}\.){1,8}[a-z]{2,24})\b", re.IGNORECASE)
_EXAMPLE_HOST = re.compile(r"(?:^|\.)example(?:\.(?:com|org|net))?$|\.(?:test|invalid)$", re.I)
_PHONE = re.compile(
    r"(?<![\w.-])(?:"
    r"\+\d[\d ().-]{7,17}\d"  # international
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (415) 555-2671
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"  # 415-555-2671
    r")(?![\w-])"
)
_EXAMPLE_PHONE = re.compile(r"55501\d\d$")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_NOT_DIGIT = re.compile(r"\D")


def personal_data(rows: Sequence[Row]) -> Iterator[Finding]:
    texts = ["\n".join(message.content for message in row.messages) for row in rows]
    kinds: tuple[tuple[str, Severity, Callable[[str], bool]], ...] = (
        ("a payment card number", "warning", _has_card),
        ("an e-mail address", "info", _has_email),
        ("a telephone number", "info", _has_phone),
    )
    for name, severity, has in kinds:
        found = [row for row, text in zip(rows, texts, strict=True) if has(text)]
        if found:
            yield Finding("pii", severity, f"holds {name}, which may come out again", tuple(found))


def _has_email(text: str) -> bool:
    if "@" not in text:
        return False
    return any(not _EXAMPLE_HOST.search(found[1]) for found in _EMAIL.finditer(text))


def _has_phone(text: str) -> bool:
    return any(
        not _EXAMPLE_PHONE.search(_NOT_DIGIT.sub("", found[0])) for found in _PHONE.finditer(text)
    )


def _has_card(text: str) -> bool:
    return any(_luhn(_NOT_DIGIT.sub("", found[0])) for found in _CARD.finditer(text))


def _luhn(digits: str) -> bool:
    """The check digit that payment card numbers carry (ISO/IEC 7812-1)."""
    if len(set(digits)) == 1:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
