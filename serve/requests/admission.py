"""Who may come in, and how many are inside: so that stopping can wait for them.

Absent on purpose: limits on how many may come in (`serve.placement.turns`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from hub.errors import EngineUnavailable


class Admission:
    def __init__(self) -> None:
        self._inside = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        return self._inside

    @property
    def closed(self) -> bool:
        return self._closed

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises EngineUnavailable once the gateway is stopping."""
        if self._closed:
            raise EngineUnavailable("the gateway is stopping", hint="Try again in a moment.")
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    def close(self) -> None:
        self._closed = True

    async def drained(self) -> None:
        """Returns when nobody is inside; the caller sets the time limit."""
        await self._empty.wait()
