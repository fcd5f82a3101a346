"""The hub's folder, for the API's routes: each question on a thread, on a LocalHub of its own.

The gateway's resolver has a connection that never writes, since its own writes would not move
`data_version`; so the API has others. They are opened when they are first needed and kept for the
next question, one at a time each. Reading and long work (publishing, checking, sweeping) have
threads of their own, so that a publish which waits for the effect check never keeps a reader
waiting.

A caller whose key is limited to namespaces is answered by a LocalHub behind a fence (`hub.fence`),
whichever route it is: no route can forget it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from queue import Empty, LifoQueue
from typing import TypeVar

from hub.home import Home
from hub.local import LocalHub
from hub.publish import MeasureEffect
from hub.who import acting_for
from serve.caller import caller

T = TypeVar("T")
# SQLite reads in parallel, but Python holds one lock over it: more would only wait.
_READERS = 8
# Each may hold the files of an adapter in memory.
_WORKERS = 2


class Hubs:
    """`open_hub` opens a LocalHub that may go from thread to thread."""

    def __init__(self, open_hub: Callable[[], LocalHub]) -> None:
        self._open = open_hub
        self._closed = False
        self._idle: LifoQueue[LocalHub] = LifoQueue()
        # Once fenced a connection stays fenced, so these never mix with the others.
        self._idle_fenced: LifoQueue[LocalHub] = LifoQueue()
        self._readers = ThreadPoolExecutor(_READERS, "hub-read")
        self._workers = ThreadPoolExecutor(_WORKERS, "hub-work")

    @classmethod
    def of(cls, home: Home, measure_effect: MeasureEffect) -> "Hubs":
        """`measure_effect` is called by any thread."""
        return cls(lambda: LocalHub.open(home, measure_effect, any_thread=True))

    def close(self) -> None:
        """Wait for readers and forget what waits. Long work ends by itself, or with its process."""
        self._closed = True
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)
        for idle in (self._idle, self._idle_fenced):
            while not idle.empty():
                idle.get().close()

    async def read(self, ask: Callable[[LocalHub], T], *, who: str | None = None) -> T:
        """What is answered in milliseconds, promotions and their like included.

        `who` is named in the histories of what it changes.
        """
        return await self._on(self._readers, ask, who)

    async def work(self, ask: Callable[[LocalHub], T], *, who: str | None = None) -> T:
        """What may take long: reading files, running the base model."""
        return await self._on(self._workers, ask, who)

    async def each(self, ask: Callable[[LocalHub], Iterable[T]]) -> AsyncIterator[T]:
        """As `work`, for what comes one by one; it ends early when the caller stops listening."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[T | None] = asyncio.Queue()
        left = threading.Event()

        def tell(item: T) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, item)

        def go_through(hub: LocalHub) -> None:
            for item in ask(hub):
                tell(item)
                if left.is_set():
                    return

        working = asyncio.ensure_future(self.work(go_through))
        working.add_done_callback(lambda done: arrived.put_nowait(None))
        try:
            while (item := await arrived.get()) is not None:
                yield item
            await working
        finally:
            left.set()

    async def _on(
        self, threads: ThreadPoolExecutor, ask: Callable[[LocalHub], T], who: str | None
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, self._ask, ask, who, caller.get().namespaces)

    def _ask(
        self, ask: Callable[[LocalHub], T], who: str | None, namespaces: frozenset[str] | None
    ) -> T:
        idle = self._idle if namespaces is None else self._idle_fenced
        hub = self._take(idle)
        try:
            if namespaces is not None:
                hub.registry.fence.put_up(namespaces)
            with acting_for(who) if who is not None else nullcontext():
                return ask(hub)
        finally:
            if self._closed:
                hub.close()
            else:
                idle.put(hub)

    def _take(self, idle: "LifoQueue[LocalHub]") -> LocalHub:
        try:
            return idle.get_nowait()
        except Empty:
            return self._open()
