"""What a process does to a hub until it is killed: the child of `tests.hub.crashing`.

It writes down what it is about to do and, after the hub has said so, that it is done, and leaves in
shared memory which step it began last.
"""

import json
import mmap
import os
import random
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub import home as home_module
from hub.errors import Conflict, UnknownReference
from hub.home import Home
from hub.local import LocalHub
from tests.conftest import adapter_tensors, write_adapter
from tests.hub.making import open_hub

NAMES = ("support", "payments", "acme/legal")
ALIASES = ("candidate", "tried")
# What a competing process may be told; anything else is a bug.
REFUSALS = (Conflict, UnknownReference)
_PACKAGE = str(Path(home_module.__file__).parent)
_STEPS = frozenset(
    ["fsync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "chmod", "flock", "execute"]
)


def work(home: Home, log: Path, step: mmap.mmap, seed: int) -> None:
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
