"""The queue of fine-tuning jobs, as the process that works through it sees it.

One process at a time, by a lock that dies with it. For each job it starts another, which trains, so
that memory is given back and whatever kills a training leaves the queue alive; a job's row names
that process. A job whose process died goes on from its last checkpoint, unless three died since
that was written: then it failed.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager

from hub.clock import now
from hub.database import one, transaction
from hub.home import Home
from hub.jobs import Job, Jobs, Level, say
from hub.records import Version
from hub.sqlite import Database

MOST_DEATHS = 3


@contextmanager
def only_worker(home: Home) -> Iterator[bool]:
    """Whether this is the one process that works through the queue, for as long as it lasts."""
    home.jobs_lock.parent.mkdir(parents=True, exist_ok=True)
    with home.jobs_lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def worker_lives(home: Home) -> bool:
    try:
        with home.jobs_lock.open("r") as lock:
            # Shared, and for an instant: a worker that starts just now tries again.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class JobQueue:
    def __init__(self, db: Database, jobs: Jobs) -> None:
        self._db = db
        self._jobs = jobs

    def left(self) -> bool:
        """Whether there is anything to do, or something was left undone by a process that died."""
        return (
            one(
                self._db,
                "SELECT 1 FROM jobs WHERE status IN ('validating_files', 'queued', 'running')",
            )
            is not None
        )

    def next(self, status: str) -> Job | None:
        """The one that has waited longest."""
        row = one(self._db, "SELECT id FROM jobs WHERE status = ? ORDER BY number LIMIT 1", status)
        return None if row is None else self._jobs.get(row["id"])

    def left_running(self) -> list[Job]:
        """Those that somebody was at, or is."""
        rows = self._db.query("SELECT id FROM jobs WHERE status = 'running' ORDER BY number")
        return [self._jobs.get(row["id"]) for row in rows]

    def look(self, job: Job) -> Job:
        """As it is now."""
        return self._jobs.get(job.id)

    def say(self, job: Job, message: str, level: Level = "info") -> None:
        with transaction(self._db):
            say(self._db, job.number, message, level)

    # -- the way of a job -------------------------------------------------------------------------

    def validated(self, job: Job) -> None:
        """Unless it was cancelled or paused meanwhile."""
        if self._move(job, "queued", "validating_files"):
            self.say(job, "The files are valid; the job waits for its turn")

    def take(self, job: Job) -> bool:
        """Whether it may be begun: not when it was cancelled or paused meanwhile."""
        if not self._move(job, "running", "queued", started_at=now(), worker=None):
            return False
        self.say(job, "Fine-tuning job started" if job.run is None else "Fine-tuning job goes on")
        return True

    def began(self, job: Job, pid: int) -> None:
        """The process that is at it; its death is noticed by whoever started it, or by the next."""
        with transaction(self._db):
            self._db.execute("UPDATE jobs SET worker = ? WHERE number = ?", [pid, job.number])

    def find_run(self, job: Job) -> None:
        """Note the run that a job's process has begun: in the ledger it is that process's."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE jobs SET run = (SELECT id FROM runs WHERE pid = jobs.worker"
                " AND runs.started_at >= jobs.started_at AND runs.adapter = jobs.adapter"
                " ORDER BY runs.started_at DESC LIMIT 1) WHERE number = ? AND run IS NULL",
                [job.number],
            )

    def may_publish(self, job: Job) -> bool:
        """From now on it can be neither cancelled nor paused. False where it was."""
        return self._move(job, "running", "running", publishing=1)

    def succeeded(
        self,
        job: Job,
        version: Version,
        *,
        run: str | None,
        step: int,
        tokens: int,
        result_file: str,
    ) -> None:
        moved = self._move(
            job,
            "succeeded",
            "running",
            publishing=0,
            worker=None,
            finished_at=now(),
            run=run,
            version=version.number,
            step=step,
            trained_tokens=tokens,
            result_file=result_file,
        )
        if moved:
            name = self.look(job).name()
            self.say(job, f"New fine-tuned model created: {name} is {version}")
            self.say(job, "The job has successfully completed")

    def failed(self, job: Job, code: str, message: str, param: str | None) -> None:
        """Unless it was cancelled meanwhile."""
        error = json.dumps({"code": code, "message": message, "param": param})
        over = {"error": error, "finished_at": now(), "publishing": 0, "worker": None}
        for status in ("running", "validating_files"):
            if self._move(job, "failed", status, **over):
                self.say(job, f"The job failed: {message}", "error")

    def back(self, job: Job) -> None:
        """To the queue, at its old place: whoever works on it stops."""
        self._move(job, "queued", "running", worker=None)

    def died(self, job: Job) -> None:
        """The process that was at it ended without a word; the job waits for the next, or fails."""
        self.find_run(job)
        with transaction(self._db):
            self._db.execute(
                "UPDATE jobs SET deaths = 1 + CASE WHEN newest > last_checkpoint THEN 0 ELSE"
                " deaths END, last_checkpoint = newest FROM (SELECT COALESCE(MAX(run_events.id), 0)"
                " AS newest FROM jobs LEFT JOIN run_events ON run_events.run = jobs.run"
                " AND kind = 'checkpoint' WHERE jobs.number = ?) WHERE number = ?",
                [job.number, job.number],
            )
            row = one(self._db, "SELECT deaths FROM jobs WHERE number = ?", job.number)
        deaths = 0 if row is None else int(row["deaths"])
        if deaths >= MOST_DEATHS:
            self.failed(
                job,
                "worker_died",
                f"its process died {deaths} times since the last checkpoint, perhaps for want of"
                " memory; the hub's log of jobs says more",
                None,
            )
        elif self._move(job, "queued", "running", worker=None):
            self.say(
                job,
                "The process that trained ended early; it goes on from its last checkpoint",
                "warn",
            )

    def _move(self, job: Job, to: str, since: str, **columns: object) -> bool:
        """Change a job's status if it is still `since`; tells whether it was."""
        names = ", ".join(f"{name} = ?" for name in ("status", *columns))
        with transaction(self._db):
            done = self._db.execute(
                f"UPDATE jobs SET {names} WHERE number = ? AND status = ?",
                [to, *columns.values(), job.number, since],
            )
        return done.rowcount == 1
