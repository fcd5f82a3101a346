"""Training processes that are killed at chosen moments, seen from outside: their log and folder.

`live` starts one and ends it with SIGKILL at its `Moment`, or lets it end by itself. What a moment
waits for is what anybody could see: a line on stderr, or a checkpoint's folder without the mark
that it is whole.
"""

import random
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["any moment", "training", "writing a checkpoint", "after training"]
KINDS: tuple[Kind, ...] = ("any moment", "training", "writing a checkpoint", "after training")
STEP, CHECKING = "step ", "checking"
# Writing one takes some tens of milliseconds.
_WRITING_S = 0.03
_LOOK_S = 0.002


@dataclass(frozen=True)
class Moment:
    """`delay` seconds after what `kind` waits for; `skipped` checkpoints are let be written."""

    kind: Kind
    delay: float
    skipped: int = 0


@dataclass(frozen=True)
class Life:
    """One process: whether it was killed, when lines of these kinds came, how it ended.

    Seconds since its start; None for what did not come.
    """

    killed: bool
    status: int
    seconds: float
    first_step: float | None
    checking: float | None
    said: str


def draw(kind: Kind, chance: random.Random, whole: Life) -> Moment:
    """A random moment of this kind in a life like `whole`, which was not interrupted."""
    first_step, checking = whole.first_step or 0.0, whole.checking or 0.0
    match kind:
        case "any moment":
            return Moment(kind, chance.uniform(0, whole.seconds))
        case "training":
            return Moment(kind, chance.uniform(0, checking - first_step))
        case "writing a checkpoint":
            return Moment(kind, chance.uniform(0, _WRITING_S), chance.randint(0, 1))
    return Moment(kind, chance.uniform(0, whole.seconds - checking))


def live(
    command: Sequence[str], folder: Path, runs: Path, moment: Moment | None, *, log: Path
) -> Life:
    """Run it in `folder` until its moment or its end; the folders of its runs are in `runs`."""
    started = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    watch = _Watch(log, runs)
    due: float | None = None
    killed = False
    while process.poll() is None:
        now = time.perf_counter() - started
        watch.look(now)
        if moment is not None and due is None and watch.come(moment):
            due = (0.0 if moment.kind == "any moment" else now) + moment.delay
        if due is not None and now >= due:
            process.kill()
            process.wait()
            killed = process.returncode < 0
            break
        time.sleep(_LOOK_S)
    seconds = time.perf_counter() - started
    watch.look(seconds)
    return Life(
        killed, process.returncode, seconds, watch.first_step, watch.checking, log.read_text()
    )


def unmarked(runs: Path) -> dict[int, Path]:
    """Folders of checkpoints that are not whole, by inode: one written again is another one."""
    found = {}
    for path in runs.glob("*/checkpoints/checkpoint-*"):
        with suppress(FileNotFoundError):  # swept as it was looked at
            if not (path / "complete").exists():
                found[path.stat().st_ino] = path
    return found


class _Watch:
    def __init__(self, log: Path, runs: Path) -> None:
        self._log, self._runs = log, runs
        self._size = -1
        self._left = frozenset(unmarked(runs))
        self._written: set[int] = set()
        self.first_step: float | None = None
        self.checking: float | None = None

    def look(self, now: float) -> None:
        if (size := self._log.stat().st_size) == self._size:
            return
        self._size = size
        lines = self._log.read_text(errors="replace").splitlines()
        if self.first_step is None and any(line.startswith(STEP) for line in lines):
            self.first_step = now
        if self.checking is None and CHECKING in lines:
            self.checking = now

    def come(self, moment: Moment) -> bool:
        match moment.kind:
            case "any moment":
                return True
            case "training":
                return self.first_step is not None
            case "after training":
                return self.checking is not None
        now = set(unmarked(self._runs)) - self._left
        self._written |= now
        return bool(now) and len(self._written) > moment.skipped
