"""Works through the queue of fine-tuning jobs: `hub jobs work`, which the server starts too.

Each job trains in a process of its own (`hub.cli.job_process`), one at a time; new jobs have their
files checked meanwhile, so that a bad one is known at once. This process holds no tensors: it
starts those, looks what is wanted of their jobs, and ends them where they don't end by themselves.
It ends when there is nothing left to do.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from hub.cli.output import note
from hub.clock import now
from hub.home import Home
from hub.jobqueue import only_worker
from hub.jobs import Job
from hub.ledger import process_lives
from hub.registry import Registry

_LOOK_S = 0.3
# One that looks whether there is a worker holds the lock for an instant.
_TRIES = 5
# A cancelled training ends with its next step; one whose step takes longer is ended.
_GRACE_S = 30.0
# A process whose worker died ends at once; longer than this, the number is another program's.
_DYING_S = 10.0
_NICE = 5


def work(home: Home) -> bool:
    """Work until nothing is left. False where another process does it already."""
    # Requests that are being answered on the same cores come first.
    with suppress(OSError):
        os.nice(_NICE)
    worked = False
    while True:
        for _ in range(_TRIES):
            with only_worker(home) as mine, Registry.open(home) as registry:
                if mine:
                    _Worker(home, registry).run()
                    worked = True
            if mine:
                break
            time.sleep(_LOOK_S)
        # What came while this one was about to leave, nobody else has seen.
        with Registry.open(home) as registry:
            if not mine or not registry.queue.left():
                return worked


@dataclass
class _Child:
    job: Job
    process: "subprocess.Popen[bytes]"
    stopping_since: float | None = field(default=None)


class _Worker:
    def __init__(self, home: Home, registry: Registry) -> None:
        self._home = home
        self._registry = registry
        self._queue = registry.queue
        self._training: _Child | None = None
        self._checking: _Child | None = None

    def run(self) -> None:
        self._take_over()
        try:
            while self._step():
                time.sleep(_LOOK_S)
        finally:
            self._leave()

    def _take_over(self) -> None:
        """What is called running has lost its worker, and so its process."""
        for job in self._queue.left_running():
            deadline = time.monotonic() + _DYING_S
            while job.worker and process_lives(job.worker) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
            _log(f"{job.id}: its process has ended")
            self._queue.died(job)

    def _step(self) -> bool:
        """Look at everything once; False when there is nothing left to do."""
        if self._checking is not None and self._checking.process.poll() is not None:
            self._checked(self._checking)
        if self._training is not None:
            self._look_after(self._training)
        if self._checking is None and (job := self._queue.next("validating_files")):
            self._checking = self._start("check", job)
        if self._training is None and (job := self._queue.next("queued")) and self._queue.take(job):
            self._training = self._start("train", job)
            self._queue.began(job, self._training.process.pid)
        return self._training is not None or self._checking is not None or self._queue.left()

    def _checked(self, child: _Child) -> None:
        self._checking = None
        if child.process.returncode and self._queue.look(child.job).status == "validating_files":
            # The training reads them again, and says what is wrong in a way that can be kept.
            _log(f"{child.job.id}: the check of its files ended early")
            self._queue.validated(child.job)

    def _look_after(self, child: _Child) -> None:
        job = self._queue.look(child.job)
        if job.run is None:
            self._queue.find_run(job)
            job = self._queue.look(job)
        if child.process.poll() is not None:
            self._training = None
            self._ended(job, child.process.returncode)
        elif job.status in ("cancelled", "paused", "queued"):
            self._stop(child, job)

    def _stop(self, child: _Child, job: Job) -> None:
        """It has been told; while nothing is there to keep, or too late for that, it is ended."""
        child.stopping_since = child.stopping_since or time.monotonic()
        waited = time.monotonic() - child.stopping_since
        if job.run is None or (job.status == "cancelled" and waited > _GRACE_S):
            child.process.kill()

    def _ended(self, job: Job, status: int) -> None:
        _log(f"{job.id}: {job.status if status == 0 else f'its process ended with {status}'}")
        if job.status == "running":
            self._queue.died(job)
        run = self._registry.ledger.find_run(job.run or "")
        if run is not None and job.status == "cancelled" and run.status == "running":
            self._registry.ledger.stop_run(run.id, "cancelled")

    def _start(self, what: Literal["check", "train"], job: Job) -> _Child:
        process = subprocess.Popen(
            [sys.executable, "-m", "hub.cli.job_process", what, job.id],
            # It ends when this pipe does.
            stdin=subprocess.PIPE,
            env={**os.environ, "HUB_HOME": str(self._home.root)},
            # Ctrl-C is for this process, which then sees to the others.
            start_new_session=True,
        )
        _log(f"{job.id}: {what} (process {process.pid})")
        return _Child(job, process)

    def _leave(self) -> None:
        """Told to end: nobody trains on, and what was begun waits for the next worker."""
        for child in (self._checking, self._training):
            if child is not None:
                child.process.kill()
                child.process.wait()
        if self._training is not None:
            self._queue.find_run(self._training.job)
            self._queue.back(self._training.job)


def _log(text: str) -> None:
    note(f"{now()} {text}")


def end_on_signal() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
