"""What has become of a run: the ledger's status, and whether the process behind it still lives.

A killed process can't write that it died. So `running` under a process that is gone is called
`interrupted`, which is not a status in the registry but what is shown.

Whether it lives is told by the lock in the run's folder, which dies with its process: a process id
may have been given to another program since, and means nothing in another container. Only before
there is a lock (a run that began this instant) the id is asked.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from hub.errors import Conflict, TrainingError
from hub.home import Home
from hub.ledger import process_lives
from hub.records import Run

State = Literal["running", "finished", "failed", "cancelled", "paused", "interrupted"]
RESUMABLE: tuple[State, ...] = ("interrupted", "failed", "cancelled", "paused")

# Whoever looks takes the lock for an instant; whoever wants to work tries again after it.
_TRIES, _PAUSE_S = 5, 0.02


def run_state(run: Run, home: Home) -> State:
    if run.status == "running" and not _is_worked_on(run, home.runs / run.id / "lock"):
        return "interrupted"
    return cast(State, run.status)


def refuse_unresumable(run: Run, home: Home) -> None:
    """Raises Conflict when the run is finished or still going on."""
    state = run_state(run, home)
    if state not in RESUMABLE:
        raise Conflict(
            f"the run {run.id} is {state}, so there is nothing to resume",
            hint="`hub runs ls` shows which were interrupted.",
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process works in a run's folder, which is made where there is none.

    Raises:
        Conflict: where another process does.
        TrainingError: when the folder can't be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise TrainingError(
            f"the run's folder can't be written: {error.strerror}",
            where=str(folder),
            hint="Make it a folder that you may write to, on a disk with room.",
        ) from error
    with lock:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if left == 0:
                    raise Conflict(
                        "another process is working on this run",
                        where=str(folder),
                        hint=f"`hub runs watch {folder.name}` follows it.",
                    ) from error
                time.sleep(_PAUSE_S)
        yield


def _is_worked_on(run: Run, lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return process_lives(run.pid)
    except OSError:
        return True
    return False
