"""Sees to it that a process works through the fine-tuning jobs: `hub jobs work`.

That process is no child to be ended with the server: it has a session of its own, goes on while the
server restarts, and ends when no job is left. Whether there is one is told by its lock, so servers
that share a hub start one between them. One that was killed is missed within seconds, and the next
goes on from the job's last checkpoint.
"""

import asyncio
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from hub.errors import HubError, MissingExtra
from hub.home import Home
from hub.jobqueue import worker_lives
from serve.hubs import Hubs

_log = logging.getLogger(__name__)
_LOOK_S = 5.0
# After one that ended with an error, the next waits: twice as long each time.
_PAUSES_S = (5.0, 300.0)
_NEEDED = ("torch", "transformers", "trl", "peft")
_LARGE_LOG = 8 << 20


class JobStarter:
    def __init__(self, home: Home, hubs: Hubs) -> None:
        self._home = home
        self._hubs = hubs
        self._wanted = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._started: subprocess.Popen[bytes] | None = None
        self._pause = _PAUSES_S[0]
        self._not_before = 0.0

    @property
    def log(self) -> Path:
        return self._home.jobs_log

    def require(self) -> None:
        """Raises MissingExtra where what trains is not installed."""
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise MissingExtra(
                f"this server can't train: it has no {', '.join(missing)}",
                hint="On the hub's machine: pip install 'lora-loom[train]'.",
            )

    def start(self) -> None:
        """Look now, and every few seconds."""
        self._looking = asyncio.create_task(self._look_on())

    def wake(self) -> None:
        """There is something new to do."""
        self._wanted.set()

    async def close(self) -> None:
        """Stop to look. Who works, goes on."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look_on(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self._look()
            except (HubError, OSError) as error:
                _log.error("no process can be started for the fine-tuning jobs: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), _LOOK_S)

    async def _look(self) -> None:
        if self._started is not None and (status := self._started.poll()) is not None:
            self._started = None
            if status == 0:
                self._pause = _PAUSES_S[0]
            else:
                _log.error(
                    "the process for fine-tuning jobs ended with %d; see %s", status, self.log
                )
                self._not_before = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _PAUSES_S[1])
        if self._started is not None or time.monotonic() < self._not_before:
            return
        if not await self._hubs.read(lambda hub: hub.registry.queue.left()):
            return
        if not worker_lives(self._home):
            self._started = await asyncio.to_thread(self._start)

    def _start(self) -> "subprocess.Popen[bytes]":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LARGE_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "hub", "jobs", "work"],
                env={**os.environ, "HUB_HOME": str(self._home.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
