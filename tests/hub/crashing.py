"""Kill processes that work on one registry, and see whether anything was lost or left half done.

A child does what a team's programs do to a hub, one operation after the other, through the same
`LocalHub` as the command line: publish, promote, roll back, set and remove aliases, delete, gc. It
writes down what it is about to do and, after the hub has said so, that it is done. The parent sends
SIGKILL at a random moment, then looks:

- `hub doctor` finds nothing broken;
- every adapter with versions has exactly one production;
- nothing that was there before has changed or gone, except by deletion;
- everything that was acknowledged is in the versions and the history, and nothing that nobody did;
- the adapter's numbers go from 1 on without a gap.

Leftovers are allowed: they are what `hub gc` is for.

Children are forked from a process without threads or open databases (`python -m`, never pytest).
"""

import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub import aliases, bases, reach, registry, versions
from hub.home import Home
from hub.registry import Registry
from tests.hub.crashview import differences, look
from tests.hub.crashwork import NAMES, work
from tests.hub.making import maker, open_hub

# The longest that a child works before it is killed.
LIFE_S = 0.05


@dataclass
class Outcome:
    """What a number of kills came to. `steps` counts where in the code they hit, and `stories` are
    what the last children had done when there was a problem."""

    kills: int = 0
    inside: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0
    problems: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)
    versions: int = 0
    moves: int = 0
    seconds: float = 0.0


class Crashes:
    """Use it in a process that has no threads and no database open."""

    def __init__(self, home: Home, seed: int) -> None:
        self.outcome = Outcome()
        self._home = home
        self._random = random.Random(seed)
        self._logs = home.root.parent / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        home.root.mkdir(parents=True, exist_ok=True)
        with Registry.create(home) as created:
            make = maker(created, home.root.parent / "made")
            for name in NAMES:
                make(name)
        # The first children find what was made here, not something that is not there yet.
        self._seen = look(home)

    def run(self, kills: int) -> Outcome:
        """In every third round three children compete; each is killed at its own moment."""
        began = time.monotonic()
        turn = 0
        while self.outcome.kills < kills and not self.outcome.problems:
            self._round(min(1 if turn % 3 else 3, kills - self.outcome.kills))
            turn += 1
        self.outcome.seconds = time.monotonic() - began
        self.outcome.versions = len(self._seen.versions)
        self.outcome.moves = len(self._seen.moves)
        return self.outcome

    def _round(self, children: int) -> None:
        started = [self._start() for _ in range(children)]
        now = time.monotonic()
        moments = {child: now + self._random.uniform(0, LIFE_S) for child in started}
        for child in sorted(started, key=lambda child: moments[child]):
            time.sleep(max(0.0, moments[child] - time.monotonic()))
            child.kill()
        for child in started:
            child.wait()
            self._count(child)
        self._check(started)

    def _start(self) -> "_Child":
        step = mmap.mmap(-1, 256)
        log = self._logs / f"{self.outcome.kills}-{self._random.getrandbits(32):08x}"
        seed = self._random.getrandbits(64)
        pid = os.fork()
        if pid == 0:
            work(self._home, log, step, seed)
        child = _Child(pid, log, step)
        child.wait_ready()
        return child

    def _count(self, child: "_Child") -> None:
        outcome = self.outcome
        outcome.kills += 1
        if child.unfinished is not None:
            outcome.inside += 1
            outcome.steps[child.at] += 1
        for operation in child.begun:
            outcome.operations[operation] += 1
        for operation, _ in child.done:
            outcome.acknowledged[operation] += 1
        for reason in child.refused:
            outcome.refused[reason] += 1
        if child.bug:
            outcome.problems.append(child.bug)

    def _check(self, children: "list[_Child]") -> None:
        now = look(self._home)
        self.outcome.problems += differences(self._seen, now, children)
        with open_hub(self._home) as hub:
            for finding in hub.doctor():
                if finding.state == "broken":
                    self.outcome.problems.append(f"doctor: {finding.check}: {finding.message}")
                self.outcome.leftovers += finding.check == "leftovers" and finding.state != "ok"
        if self.outcome.problems:
            self.outcome.stories = [child.story() for child in children]
        self._seen = now


@contextmanager
def without_transactions() -> Iterator[None]:
    """A control: every statement commits by itself, as in a program that does not think of it."""

    @contextmanager
    def nothing(db: object) -> Iterator[None]:
        yield

    modules = (aliases, bases, reach, registry, versions)
    kept = [module.transaction for module in modules]
    for module in modules:
        module.transaction = nothing
    try:
        yield
    finally:
        for module, transaction in zip(modules, kept, strict=True):
            module.transaction = transaction


class _Child:
    def __init__(self, pid: int, log: Path, step: mmap.mmap) -> None:
        self.lines: list[str] = []
        self.begun: list[str] = []
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[str] = []
        self.unfinished: str | None = None
        self.at = ""
        self.bug = ""
        self._pid = pid
        self._log = log
        self._step = step

    def wait_ready(self) -> None:
        """Until it has opened the hub: then the clock starts."""
        while self._step[0:1] != b"!":
            if os.waitpid(self._pid, os.WNOHANG)[0]:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.0005)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self._pid, 0)
        self.lines = self._log.read_text().splitlines()
        for line in self.lines:
            self._read(json.loads(line))
        length = self._step[1]
        self.at = self._step[2 : 2 + length].decode()
        self._step.close()
        self._log.unlink()
        shutil.rmtree(self._log.parents[1] / "made" / str(self._pid), ignore_errors=True)

    def story(self) -> str:
        """What it did in its life, to find out what went wrong in it."""
        return f"child {self._pid}, killed at '{self.at}', had said:\n" + "\n".join(self.lines)

    def _read(self, line: dict[str, Any]) -> None:
        if line["kind"] == "begin":
            self.unfinished = line["operation"]
            self.begun.append(line["operation"])
        elif line["kind"] == "bug":
            self.bug = line["text"]
        else:
            self.unfinished = None
            if line["kind"] == "done":
                self.done.append((line["operation"], line["facts"]))
            else:
                self.refused.append(line["reason"])


def main() -> int:
    """`python -m tests.hub.crashing FOLDER KILLS SEED`: prints the outcome as JSON."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    outcome = Crashes(Home(folder / "home"), seed).run(kills)
    print(json.dumps(vars(outcome)))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
