"""At most so many different versions in use at once, and none that starves another.

vLLM runs `--max-loras` adapters in one batch. Asked for more at once it passes over requests for
the others as long as those in the batch keep coming, so one busy adapter can keep another waiting
for ever. The gateway lets only as many versions through as the engine can run together:

- A version that is inside goes on being let in, until it has been there for a quantum and others
  wait for a place. Then it is closed: what it has inside ends, and its further requests wait.
- No more versions are closed than wait for a place; the one that asks for more is closed first.
- A version whose last request ends gives its place to the version that has waited longest, with
  all its waiting requests.

So whoever waits gets a place after a quantum and one request's length for each that came before.
Nothing here knows of engines or loads. Everything happens in one event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Stay:
    since: float
    requests: int = 0


class Places:
    """`limit` is asked whenever it matters, and says 1 or more; call `look` when it has grown."""

    def __init__(
        self,
        limit: Callable[[], int],
        *,
        quantum_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._quantum_s = quantum_s
        self._clock = clock
        self._inside: dict[str, _Stay] = {}
        # By the arrival of the first that waits; of versions without a place, and of closed ones.
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        # Always inside, in the order in which they were closed.
        self._closed: dict[str, None] = {}

    @property
    def used(self) -> int:
        """How many versions have a place."""
        return len(self._inside)

    @property
    def limit(self) -> int:
        return self._limit()

    @property
    def waiting(self) -> int:
        """How many versions wait for a place."""
        return len(self._lines) - sum(key in self._lines for key in self._closed)

    def is_waited_for(self, key: str) -> bool:
        return key in self._lines

    async def enter(self, key: str) -> None:
        """Returns when one more request for `key` may run; it is to `leave` once."""
        if self._is_open(key):
            self._stay(key).requests += 1
            return
        entry = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key, deque()).append(entry)
        try:
            await entry
        except asyncio.CancelledError:
            if not entry.cancelled():
                self.leave(key)  # it was let in at the same moment
            else:
                self._give_up(key, entry)
            raise

    def leave(self, key: str) -> None:
        stay = self._inside[key]
        stay.requests -= 1
        if not stay.requests:
            del self._inside[key]
            self._closed.pop(key, None)
            self.look()

    def look(self) -> None:
        """Let in whoever may come in now."""
        while len(self._inside) < self._limit():
            longest = next((key for key in self._lines if key not in self._inside), None)
            if longest is None:
                break
            self._let_in(longest)
        while len(self._closed) > self.waiting:
            reopened, _ = self._closed.popitem()
            self._let_in(reopened)

    def _is_open(self, key: str) -> bool:
        if key in self._lines:
            return False
        stay = self._inside.get(key)
        waiting = self.waiting
        if stay is None:
            return not waiting and len(self._inside) < self._limit()
        if key not in self._closed:
            over = self._clock() - stay.since >= self._quantum_s
            if not over or len(self._closed) >= waiting:
                return True
            self._closed[key] = None
        return False

    def _stay(self, key: str) -> _Stay:
        stay = self._inside.get(key)
        if stay is None:
            stay = self._inside[key] = _Stay(self._clock())
        return stay

    def _let_in(self, key: str) -> None:
        for entry in self._lines.pop(key, ()):
            # One that was cancelled has not yet had the time to take itself off.
            if not entry.done():
                self._stay(key).requests += 1
                entry.set_result(None)

    def _give_up(self, key: str, entry: "asyncio.Future[None]") -> None:
        line = self._lines.get(key)
        if line is not None and entry in line:
            line.remove(entry)
            if not line:
                del self._lines[key]
            # With one less waiting, one that was closed for it may be open again.
            self.look()
