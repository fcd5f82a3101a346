"""What has become of a run: the ledger's status, and whether the process behind it still lives.

A killed process can't write that it died. So `running` under a process that is gone is called
`interrupted`, which is not a status in the registry but what is shown.

A process id may have been given to another program since; then a dead run is called running until
that program ends. The lock in a run's folder, which dies with its process, keeps a resume safe.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from hub.errors import Conflict, TrainingError
from hub.ledger import process_lives
from hub.records import Run

State = Literal["running", "finished", "failed", "interrupted"]


def run_state(run: Run) -> State:
    if run.status == "running" and not process_lives(run.pid):
        return "interrupted"
    return cast(State, run.status)


def refuse_unresumable(run: Run) -> None:
    """Raises Conflict when the run is finished or still going on."""
    state = run_state(run)
    if state in ("finished", "running"):
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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict("another process is working on this run", where=str(folder)) from error
        yield
