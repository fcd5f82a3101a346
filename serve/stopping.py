"""Being told to stop: by signals, which a server of ours takes for itself."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

# What requests and engines need to end is less; this is for what never does.
ENDING_S = 20.0
_log = logging.getLogger(__name__)


class Told:
    """What signals said: one is `stop`, a second is `hurry`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def again(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


@contextmanager
def signals() -> Iterator[Told]:
    told = Told()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    # Under nohup it is ignored, and has to stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told.again)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def end_within(seconds: float) -> None:
    """From now on this process lives that long at most, also when a thread of it hangs in a disk or
    a bucket that does not answer, which nothing can cancel and Python would wait for.

    Nothing is lost that was answered for: a registry survives a kill at any moment, and the guards
    end their engines.
    """
    timer = threading.Timer(seconds, _end, [seconds])
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    _log.error("not ended %.0f s after it was told to: some work does not, so it is left", seconds)
    os._exit(1)


async def first(one: Coroutine[Any, Any, Any], other: Awaitable[Any]) -> None:
    """Until either is done. A task given as `other` goes on; coroutines are cancelled."""
    own = [asyncio.ensure_future(one)]
    waited = asyncio.ensure_future(other)
    if waited is not other:
        own.append(waited)
    try:
        await asyncio.wait({own[0], waited}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()
