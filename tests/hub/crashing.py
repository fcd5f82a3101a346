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
import sqlite3
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hub import aliases, bases, reach, registry, versions
from hub.errors import Conflict, UnknownReference
from hub.home import Home
from hub.local import LocalHub
from hub.registry import Registry
from tests.conftest import adapter_tensors, write_adapter
from tests.hub.making import maker, open_hub

NAMES = ("support", "payments", "acme/legal")
ALIASES = ("candidate", "tried")
# What a competing process may be told; anything else is a bug.
REFUSALS = (Conflict, UnknownReference)
# The longest that a child works before it is killed.
LIFE_S = 0.05
_PACKAGE = str(Path(sys.modules["hub.home"].__file__ or "").parent)
_STEPS = frozenset(
    ["fsync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "chmod", "flock", "execute"]
)


@dataclass
class Outcome:
    """What a number of kills came to. `steps` counts where in the code they hit."""

    kills: int = 0
    inside: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0
    problems: list[str] = field(default_factory=list)
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
        self._seen = _look(home)

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
            _work(self._home, log, step, seed)
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
        now = _look(self._home)
        self.outcome.problems += _differences(self._seen, now, children)
        with open_hub(self._home) as hub:
            for finding in hub.doctor():
                if finding.state == "broken":
                    self.outcome.problems.append(f"doctor: {finding.check}: {finding.message}")
                self.outcome.leftovers += finding.check == "leftovers" and finding.state != "ok"
        if self.outcome.problems:
            self.outcome.problems += [child.story() for child in children]
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


# -- what a child does ----------------------------------------------------------------------------


def _work(home: Home, log: Path, step: mmap.mmap, seed: int) -> None:
    """Operations without end, in a forked child; it never returns."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(kind: str, **more: object) -> None:
        line = {"at": time.monotonic(), "kind": kind, **more}
        os.write(out, json.dumps(line, default=str).encode() + b"\n")

    try:
        with open_hub(home) as hub:
            worker = _Worker(hub, home.root.parent / "made" / str(os.getpid()), seed)
            step[0:1] = b"!"
            while True:
                operation = worker.choose()
                write("begin", operation=operation.__name__)
                sys.setprofile(_Tracer(step, operation.__name__))
                try:
                    facts = operation()
                except REFUSALS as error:
                    write("refused", operation=operation.__name__, reason=type(error).__name__)
                else:
                    sys.setprofile(None)
                    write("done", operation=operation.__name__, facts=facts)
                finally:
                    sys.setprofile(None)
    except BaseException:  # whatever it is, the parent has to hear of it
        write("bug", text=traceback.format_exc())
        os._exit(3)


class _Worker:
    def __init__(self, hub: LocalHub, folder: Path, seed: int) -> None:
        self._hub = hub
        self._folder = write_adapter(folder, adapter_tensors(seed=1))
        self._weights = (folder / "adapter_model.safetensors").read_bytes()
        self._random = random.Random(seed)

    def choose(self) -> Callable[[], Any]:
        chances = {
            self.publish: 5,
            self.promote: 9,
            self.rollback: 6,
            self.set_alias: 4,
            self.remove_alias: 2,
            self.remove: 2,
            self.gc: 2,
        }
        return self._random.choices(list(chances), list(chances.values()))[0]

    def publish(self) -> Any:
        """Weights of its own: the last numbers of the tensors are drawn."""
        drawn = struct.pack("<8f", *(self._random.uniform(-1, 1) for _ in range(8)))
        weights = self._folder / "adapter_model.safetensors"
        weights.write_bytes(self._weights[: -len(drawn)] + drawn)
        return asdict(self._hub.publish(self._name(), self._folder, lineage={}))

    def promote(self) -> Any:
        return self._moved(
            lambda name: self._hub.promote(
                self._version(name), "production", expect=None, force=True, why="crash test"
            )
        )

    def rollback(self) -> Any:
        return self._moved(lambda name: self._hub.rollback(name, to=None, why="crash test"))

    def set_alias(self) -> Any:
        alias = self._random.choice(ALIASES)
        return self._moved(
            lambda name: self._hub.set_alias(
                self._version(name), alias, expect=None, force=False, why=""
            )
        )

    def remove_alias(self) -> Any:
        alias = self._random.choice(ALIASES)
        return self._moved(lambda name: self._hub.remove_alias(name, alias, why=""))

    def remove(self) -> Any:
        name = self._name()
        if self._random.random() < 0.1:
            return asdict(self._hub.remove(name, whole_adapter=True, why="crash test"))
        return asdict(self._hub.remove(self._version(name), whole_adapter=False, why=""))

    def gc(self) -> Any:
        days = self._random.choice((0, 30, 30))
        return asdict(self._hub.gc(keep_days=days, dry_run=False))

    def _moved(self, move: Callable[[str], Any]) -> Any:
        name = self._name()
        return {"name": name, **asdict(move(name))}

    def _name(self) -> str:
        return self._random.choice(NAMES)

    def _version(self, name: str) -> str:
        return str(self._random.choice(self._hub.registry.versions.of(name)))


class _Tracer:
    """Leaves in shared memory what the process was doing last, for when it is dead."""

    def __init__(self, step: mmap.mmap, operation: str) -> None:
        self._step = step
        self._operation = operation
        self._note(f"{operation}: begin")

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        name = getattr(argument, "__name__", "")
        if event == "c_call" and name in _STEPS and not isinstance(argument.__self__, str):
            while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
                frame = frame.f_back
            where = frame.f_code.co_qualname if frame else "?"
            self._note(f"{self._operation}: {where} > {name}")

    def _note(self, text: str) -> None:
        data = text.encode()[:250]
        self._step[1 : 2 + len(data)] = bytes([len(data)]) + data


# -- what the parent knows of a child -------------------------------------------------------------


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


# -- what must hold -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """Every version and every move, as rows, and the adapter of every alias `production`."""

    versions: list[dict[str, Any]]
    moves: list[dict[str, Any]]
    productions: list[str]


def _look(home: Home) -> _Seen:
    connection = sqlite3.connect(home.registry)
    connection.row_factory = sqlite3.Row
    try:
        versions = connection.execute(
            "SELECT versions.id, name, number, digest, deleted_at FROM versions"
            " JOIN adapters ON adapters.id = adapter_id ORDER BY versions.id"
        )
        moves = connection.execute(
            "SELECT alias_moves.id, name, alias, action, f.number AS from_number,"
            " t.number AS to_number, at FROM alias_moves"
            " JOIN adapters ON adapters.id = alias_moves.adapter_id"
            " LEFT JOIN versions AS f ON f.id = from_version_id"
            " LEFT JOIN versions AS t ON t.id = to_version_id ORDER BY alias_moves.id"
        )
        named = connection.execute(
            "SELECT name FROM aliases JOIN adapters ON adapters.id = adapter_id"
            " WHERE alias = 'production' ORDER BY name"
        )
        return _Seen(
            [dict(row) for row in versions],
            [dict(row) for row in moves],
            [row["name"] for row in named],
        )
    finally:
        connection.close()


def _differences(before: _Seen, now: _Seen, children: list[_Child]) -> list[str]:
    problems = []
    for old, new in zip(before.versions, now.versions, strict=False):
        same = all(old[key] == new[key] for key in ("id", "name", "number", "digest"))
        if not same or (old["deleted_at"] and new["deleted_at"] != old["deleted_at"]):
            problems.append(f"a version changed: {old} -> {new}")
    if len(now.versions) < len(before.versions) or now.moves[: len(before.moves)] != before.moves:
        problems.append("something of the past is gone")
    # By plain SQL: the doctor is under test as well.
    living = sorted({row["name"] for row in now.versions if row["deleted_at"] is None})
    if now.productions != living:
        problems.append(f"production of {now.productions}, versions of {living}")
    for name in NAMES:
        numbers = [row["number"] for row in now.versions if row["name"] == name]
        if numbers != list(range(1, len(numbers) + 1)):
            problems.append(f"{name} has the numbers {numbers}")
    problems += _lost(now, children)
    problems += _invented(before, now, children)
    return problems


def _lost(now: _Seen, children: list[_Child]) -> list[str]:
    """What was acknowledged and is not there."""
    digests = {f"{row['name']}@{row['number']}": row["digest"] for row in now.versions}
    deleted = {f"{row['name']}@{row['number']}" for row in now.versions if row["deleted_at"]}
    keys = ("name", "alias", "action", "from_number", "to_number", "at")
    moves = Counter(tuple(row[key] for key in keys) for row in now.moves)
    problems = []
    for operation, facts in (entry for child in children for entry in child.done):
        if operation == "publish":
            if digests.get(facts["version"]) != facts["digest"]:
                problems.append(f"lost: {facts}")
        elif operation == "remove":
            problems += [f"not deleted: {v}" for v in facts["versions"] if v not in deleted]
        elif operation == "gc":
            gone = [entry["version"] for entry in facts["versions"]]
            problems += [f"not deleted: {v}" for v in gone if v not in deleted]
        elif not moves[tuple(facts[key] for key in keys)]:
            problems.append(f"lost: {operation} {facts}")
    return problems


def _invented(before: _Seen, now: _Seen, children: list[_Child]) -> list[str]:
    """New rows that no operation accounts for; an unfinished one may have come through or not."""
    unfinished = Counter(child.unfinished for child in children)
    done = [entry for child in children for entry in child.done]
    published = sum(op == "publish" and facts["created"] for op, facts in done)
    new_versions = len(now.versions) - len(before.versions)
    moved = Counter(facts["action"] for op, facts in done if op not in ("publish", "remove", "gc"))
    new_moves = Counter(row["action"] for row in now.moves[len(before.moves) :])
    problems = []
    if not published <= new_versions <= published + unfinished["publish"]:
        problems.append(f"{new_versions} new versions, {published} acknowledged")
    for action, operation in (
        ("promote", "promote"), ("rollback", "rollback"), ("set", "set_alias"),
    ):  # fmt: skip
        if not moved[action] <= new_moves[action] <= moved[action] + unfinished[operation]:
            problems.append(
                f"{new_moves[action]} new moves by {action}, {moved[action]} acknowledged"
            )
    return problems


def main() -> int:
    """`python -m tests.hub.crashing FOLDER KILLS SEED`: prints the outcome as JSON."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    outcome = Crashes(Home(folder / "home"), seed).run(kills)
    print(json.dumps(vars(outcome)))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
