"""The lint's rule about personal data and secrets, one finding a kind.

An adapter may repeat what it was trained on, so these deserve a decision. Numbers with a check
digit are checked by it; what is reserved for examples (example.com, 555-01xx, 192.0.2.0/24) is left
alone. `KINDS` is the list, for whoever wants to find or redact them.

Absent on purpose: names and postal addresses, which patterns cannot tell from other words.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from train.linting.facts import Facts
from train.linting.findings import Finding, Severity

_EXAMPLE_HOST = re.compile(r"(?:^|\.)example(?:\.(?:com|org|net))?$|\.(?:test|invalid)$", re.I)
_EXAMPLE_PHONE = re.compile(r"55501\d\d$")
_EXAMPLE_NET = ("192.0.2.", "198.51.100.", "203.0.113.")
_LOCAL_NET = re.compile(r"(?:0|10|127|169\.254|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.|255\.")
# By first digits and length: every tenth number, of parcels or goods, has the right check digit.
_ISSUED = re.compile(
    r"4\d{15}(?:\d{3})?"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d|352[89]|35[3-8]\d|62\d\d)\d{12}"  # Discover, JCB, UnionPay
)
_NOT_DIGIT = re.compile(r"\D")
_DIGITS = re.compile(r"\d[ .-]?\d")


@dataclass(frozen=True)
class Kind:
    """`likely` is a cheap test of the whole text; `accepted` the last word on one match."""

    name: str
    severity: Severity
    words: str
    pattern: re.Pattern[str]
    accepted: Callable[[re.Match[str]], bool]
    likely: Callable[[str], bool]

    def first(self, text: str) -> re.Match[str] | None:
        """The first place in a text, or None."""
        if not self.likely(text):
            return None
        return next((found for found in self.pattern.finditer(text) if self.accepted(found)), None)


def personal_data(facts: Facts) -> Iterator[Finding]:
    for kind in KINDS:
        found = [
            row
            for row, text in zip(facts.rows, facts.texts, strict=True)
            if kind.first(text) is not None
        ]
        if found:
            reason = f"holds {kind.words}, which may come out again"
            yield Finding("pii", kind.severity, reason, tuple(found))


def _with_digits(text: str) -> bool:
    return _DIGITS.search(text) is not None


def _always(found: re.Match[str]) -> bool:
    return True


def _is_card(found: re.Match[str]) -> bool:
    digits = _NOT_DIGIT.sub("", found[0])
    return _ISSUED.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    """The check digit that payment card numbers carry (ISO/IEC 7812-1)."""
    if len(set(digits)) == 1:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_iban(found: re.Match[str]) -> bool:
    """The check digits of an account number (ISO 13616, ISO/IEC 7064 MOD 97-10)."""
    plain = found[0].replace(" ", "").upper()
    turned = plain[4:] + plain[:4]
    return len(plain) >= 15 and int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def _is_phone(found: re.Match[str]) -> bool:
    return _EXAMPLE_PHONE.search(_NOT_DIGIT.sub("", found[0])) is None


def _is_address(found: re.Match[str]) -> bool:
    return _EXAMPLE_HOST.search(found[1]) is None


def _is_public_net(found: re.Match[str]) -> bool:
    return not found[0].startswith(_EXAMPLE_NET) and _LOCAL_NET.match(found[0]) is None


KINDS: tuple[Kind, ...] = (
    Kind(
        "card",
        "warning",
        "a payment card number",
        re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"),
        _is_card,
        _with_digits,
    ),
    Kind(
        "iban",
        "warning",
        "a bank account number (IBAN)",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _is_iban,
        _with_digits,
    ),
    Kind(
        "ssn",
        "warning",
        "a US social security number",
        re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
        _always,
        _with_digits,
    ),
    Kind(
        "secret",
        "warning",
        "a key or password",
        re.compile(
            r"\b(?:sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
            r"|xox[abprs]-[A-Za-z0-9-]{20,}|hf_[A-Za-z0-9]{30,}|AIza[\w-]{35}"
            r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
            r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
        ),
        _always,
        lambda text: any(
            sign in text
            for sign in ("sk-", "AKIA", "gh", "xox", "hf_", "AIza", "eyJ", "PRIVATE KEY")
        ),
    ),
    Kind(
        "email",
        "info",
        "an e-mail address",
        re.compile(r"[\w.+-]{1,64}@((?:[\w-]{1,63}\.){1,8}[a-z]{2,24})\b", re.IGNORECASE),
        _is_address,
        lambda text: "@" in text,
    ),
    Kind(
        "phone",
        "info",
        "a telephone number",
        re.compile(
            r"(?<![\w.-])(?:"
            r"\+\d[\d ().-]{7,17}\d"  # international
            r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (415) 555-2671
            r"|\d{3}[ .-]\d{3}[ .-]\d{4}"  # 415-555-2671
            r")(?![\w-])"
        ),
        _is_phone,
        _with_digits,
    ),
    Kind(
        "ip",
        "info",
        "an internet address",
        re.compile(
            r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]*\d)"
        ),
        _is_public_net,
        lambda text: text.count(".") >= 3 and _with_digits(text),
    ),
)
