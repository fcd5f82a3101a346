"""Leaves out an engine that fails again and again, though it calls itself healthy.

Closed: requests go there. After `OPENS_AT` failures with no success between them it opens: no
request for a pause that doubles each time. Then one request at a time tries it (half-open), until
one succeeds. A new life of the engine ends the pause at once, but its first failure opens it again.

Absent on purpose: what a failure is (`serve.requests.dispatch` says so), and waiting
(`serve.placement.fleet`).
"""

import time
from collections.abc import Callable

OPENS_AT = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Breaker:
    """One engine's; all methods belong to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.openings = 0
        self._clock = clock
        self._generation = 0
        self._failures = 0
        self._row = 0  # openings since the last success
        self._until: float | None = None
        self._trying = False

    def seen(self, generation: int) -> None:
        """The engine's present life."""
        if generation != self._generation:
            self._generation = generation
            self._trying = False
            if self._until is not None:
                self._until = None
                self._failures = OPENS_AT - 1

    @property
    def is_closed(self) -> bool:
        return self._until is None

    @property
    def may_try(self) -> bool:
        """Its pause is over, and nobody is trying it yet."""
        return self.pause_s == 0 and not self.is_closed and not self._trying

    @property
    def pause_s(self) -> float:
        """How much longer it is left out, in seconds."""
        return max(0.0, self._until - self._clock()) if self._until is not None else 0.0

    def trying(self) -> None:
        """A request goes there though it is not closed."""
        self._trying = True

    def began(self) -> None:
        """An answer has begun there, and may yet break: a trial lets others in again, but until
        one succeeds the next failure opens it for longer."""
        if self._until is not None:
            self._until = None
            self._failures = OPENS_AT - 1
        self._trying = False

    def succeeded(self) -> None:
        """An answer came to its good end."""
        self._failures = self._row = 0
        self._until = None
        self._trying = False

    def failed(self) -> None:
        self._failures += 1
        if self._trying or (self._until is None and self._failures >= OPENS_AT):
            pause = min(_FIRST_PAUSE_S * 2**self._row, _LONGEST_PAUSE_S)
            self._until = self._clock() + pause
            self._row += 1
            self.openings += 1
        self._trying = False

    def left(self) -> None:
        """The request ended without telling anything about the engine."""
        self._trying = False
