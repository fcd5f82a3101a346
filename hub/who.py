"""Who does it and why, as histories tell it."""

import getpass
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hub.errors import UsageError

_LONGEST_REASON = 1000
# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNSHOWN = frozenset({"Cc", "Cs", "Zl", "Zp"})

# Whom a server acts for: each request is a context of its own.
_ACTING_FOR: ContextVar[str | None] = ContextVar("acting_for", default=None)


@contextmanager
def acting_for(who: str) -> Iterator[None]:
    """Within this context, histories name `who` instead of this process's account."""
    token = _ACTING_FOR.set(who)
    try:
        yield
    finally:
        _ACTING_FOR.reset(token)


def whoami() -> str:
    """The account's name, or whom a server acts for; containers may run as a user without one."""
    if (who := _ACTING_FOR.get()) is not None:
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def parse_reason(text: str) -> str:
    """`text` itself if it can be the reason that a history keeps: one line, shown in terminals.

    Raises:
        UsageError: when it is too long, or holds a control character or no valid Unicode.
    """
    if len(text) > _LONGEST_REASON:
        raise UsageError(
            f"a reason of {len(text)} characters",
            hint=f"Write {_LONGEST_REASON} at most: it is one line of a history.",
        )
    if any(unicodedata.category(sign) in _UNSHOWN for sign in text):
        raise UsageError(
            "the reason holds a control character, a line break or text that is not valid Unicode",
            hint="Write one line of plain text.",
        )
    return text
