"""Writes interactions, and everything else in `interactions.db`, from one thread of its own.

The thread owns the database connection. It takes all that is waiting, commits the interactions
among it in one transaction, and only then tells those who wait. So `await record(...)` means that
the record survives the process being killed, and a busy disk is paid once for many requests.

When an interaction can't be written (a full disk, a damaged file), the client still gets its
answer: the failure is logged and counted in `failures`, and `record` says so. A log that stops the
service it describes would be worse than a gap in it. Feedback and votes are different, they *are*
the write: their errors go to whoever asked.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from hub.errors import HubError
from hub.feedback.interactions import Interaction, InteractionLog
from hub.home import Home

_log = logging.getLogger(__name__)

T = TypeVar("T")
_Work = Callable[[InteractionLog], None]
# A waiter in an event loop is told by that loop's own thread, one by `submit` by the journal's.
_Entry = tuple[Interaction, "asyncio.Future[bool] | Future[bool]"]


class Journal:
    """Make one with `open`, in a thread that may wait for the disk; close it likewise."""

    def __init__(self, home: Home) -> None:
        self.written = 0
        self.failures = 0
        self._home = home
        self._queue: queue.SimpleQueue[_Entry | _Work | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    @classmethod
    def open(cls, home: Home) -> "Journal":
        """Raises IntegrityError or HubError when the database can't be opened."""
        journal = cls(home)
        journal._thread.start()
        journal._opened.result()
        return journal

    def close(self) -> None:
        """Write what is waiting, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, interaction: Interaction) -> "Future[bool]":
        """Have an interaction written; does not wait, so it is safe where a task is cancelled."""
        written: Future[bool] = Future()
        self._queue.put((interaction, written))
        return written

    def recording(self, interaction: Interaction) -> "asyncio.Future[bool]":
        """Begin to write an interaction; wait for what this returns before its answer ends.

        True once it is committed, False when it could not be.
        """
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put((interaction, written))
        return written

    async def record(self, interaction: Interaction) -> bool:
        """Returns once the interaction is committed: True, or False when it could not be."""
        return await self.recording(interaction)

    @property
    def backlog(self) -> int:
        """How many wait, those that are being written not counted."""
        return self._queue.qsize()

    async def ask(self, question: Callable[[InteractionLog], T]) -> T:
        """Run something on the log in the journal's thread, after all that was recorded before.

        Raises:
            HubError: whatever the question raises, or that the database can't be written.
        """
        answer: Future[T] = Future()

        def work(log: InteractionLog) -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question(log))
            except sqlite3.Error as error:
                answer.set_exception(HubError(f"the log can't be used ({error})"))
            except Exception as error:  # it belongs to whoever asked; the thread must go on
                answer.set_exception(error)

        self._queue.put(work)
        return await asyncio.wrap_future(answer)

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            log = InteractionLog.open(self._home)
        except BaseException as error:  # whatever it is, `open` raises it in the caller's thread
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        with log:
            while self._turn(log):
                pass

    def _turn(self, log: InteractionLog) -> bool:
        """One group: everything that waits now. Tells whether to go on."""
        group: list[_Entry] = []
        item = self._queue.get()
        while True:
            if isinstance(item, tuple):
                group.append(item)
            else:
                self._commit(log, group)
                group = []
                if item is None:
                    return False
                item(log)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                self._commit(log, group)
                return True

    def _commit(self, log: InteractionLog, group: list[_Entry]) -> None:
        if not group:
            return
        error = _write(log, [interaction for interaction, _ in group])
        if error is None or len(group) == 1 or _is_the_databases(error):
            self._tell(group, error)
            return
        # One bad record must not take the others of its group with it.
        for entry in group:
            self._tell([entry], _write(log, [entry[0]]))

    def _tell(self, group: list[_Entry], error: Exception | None) -> None:
        if error is None:
            self.written += len(group)
        else:
            self.failures += len(group)
            _log.error("%s could not be logged: %s", group[0][0].id, error)
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
        for _, written in group:
            if isinstance(written, asyncio.Future):
                waiting.setdefault(written.get_loop(), []).append(written)
            # A waiter that was cancelled no longer takes a result.
            elif written.set_running_or_notify_cancel():
                written.set_result(error is None)
        for loop, futures in waiting.items():
            # Once for the whole group: waking a loop costs more than telling one of its futures.
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(_settle, futures, error is None)


def _settle(futures: "list[asyncio.Future[bool]]", written: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(written)


def _is_the_databases(error: Exception) -> bool:
    """Locked, full, unreadable or damaged: no record's fault, and each would meet it again."""
    # sqlite3 says "damaged" with the plain DatabaseError, whose subclasses are about records.
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _write(log: InteractionLog, interactions: list[Interaction]) -> Exception | None:
    try:
        log.record(interactions)
    except Exception as error:  # whatever one record does, the thread must go on for the others
        return error
    return None
