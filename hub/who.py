"""Who does it, as histories name them."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
