"""One guarded process with its output in a log file: started, watched, ended, never left behind.

The guard leads a session, and whatever it started is in it. However the guard ends, what is left of
that session is killed from here. Out of reach is only a process that went into a session of its own
and whose guard was killed before it could find it.
"""

import asyncio
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from serve.engines.guard import GRACE_S, living_in

_log = logging.getLogger(__name__)

LOG_TAIL_LINES = 15
_LOG_TAIL_BYTES = 64 * 1024
_CLEAR_S = 10.0
_CLEAR_POLL_S = 0.05
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# From here `python -m` finds this package, whatever lies where the gateway was started.
_PACKAGES = Path(__file__).resolve().parents[2]


class GuardedProcess:
    """Make one with `start`. The log keeps earlier lives' lines; `tail` shows this life's only."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_from: int) -> None:
        self._process = process
        self._log = log
        self._log_from = log_from
        self._cleared = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        cores: Sequence[int] = (),
    ) -> "GuardedProcess":
        """With `cores`, the process and all that it starts run on these alone."""
        bound = ("--cores", ",".join(map(str, cores))) if cores else ()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serve.engines.guard", *bound, "--", *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **environment},
                cwd=_PACKAGES,
                # Ctrl-C in the terminal must reach the gateway alone; and see `_clear`.
                start_new_session=True,
            )
            return cls(process, log, stream.tell())

    async def wait(self) -> int:
        """Its exit status; returns when nothing of its session is left, or won't die."""
        status = await self._process.wait()
        await self._clear()
        return status

    async def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(GRACE_S + 10):
                await self._process.wait()
        except TimeoutError:
            # The guard hangs, which it never should.
            self._process.kill()
        await self.wait()

    async def _clear(self) -> None:
        """Kill what a guard that was killed left in its session, which has the guard's pid."""
        deadline = time.monotonic() + _CLEAR_S
        # Once it is empty, the kernel may give the number to somebody else's session.
        while not self._cleared:
            left = living_in(self._process.pid)
            self._cleared = not left
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if left and time.monotonic() > deadline:
                _log.error("processes of the engine don't die: %s", left)
                return
            if left:
                await asyncio.sleep(_CLEAR_POLL_S)

    def tail(self) -> str:
        """The last lines of this life's output; none where somebody took the log away."""
        try:
            with self._log.open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(self._log_from, stream.tell() - _LOG_TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line for line in _COLOUR.sub("", text).splitlines() if line.strip()]
        return "\n".join(lines[-LOG_TAIL_LINES:])


def rotate(log: Path) -> None:
    """Keep the log of the gateway's previous run beside the new one."""
    if log.exists():
        log.replace(log.with_suffix(f"{log.suffix}.1"))
