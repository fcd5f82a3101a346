"""Many processes read one registry while others promote in it: who waits, who fails, what is seen.

Every reader has a connection of its own. It resolves production as the gateway does, and in one
read transaction compares the alias with the newest move of its history: a half-done promotion would
show in one and not in the other.
"""

import json
import mmap
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.home import Home
from hub.names import AdapterRef
from hub.registry import Registry
from tests.hub.making import maker, open_hub

VERSIONS = 10
WRITERS = 2
# Between two reads or promotions of one process: fifty that never pause are a test of the
# machine's scheduler, and two that never pause one of who is lucky.
PAUSE_S = 0.01


@dataclass
class Readings:
    """Times are the longest that anybody waited, in milliseconds."""

    readers: int
    promotes: int = 0
    reads: int = 0
    slowest_read_ms: float = 0.0
    slowest_promote_ms: float = 0.0
    moves: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def read_while_promoting(home: Home, *, readers: int, promotes: int) -> Readings:
    """Call it in a process without threads or open databases: it forks."""
    home.root.mkdir(parents=True, exist_ok=True)
    with Registry.create(home) as registry:
        make = maker(registry, home.root.parent / "made")
        for _ in range(VERSIONS):
            make()
    stop = mmap.mmap(-1, 1)
    result = Readings(readers)
    began = time.monotonic()
    reading = [_child(lambda: _read(home, stop)) for _ in range(readers)]
    writing = [_child(lambda n=n: _promote(home, n, promotes // WRITERS)) for n in range(WRITERS)]
    for told in (_wait(child) for child in writing):
        result.promotes += told.get("count", 0)
        result.slowest_promote_ms = max(result.slowest_promote_ms, told.get("slowest_ms", 0))
        result.problems += told["problems"]
    stop[0:1] = b"!"
    for told in (_wait(child) for child in reading):
        result.reads += told.get("count", 0)
        result.slowest_read_ms = max(result.slowest_read_ms, told.get("slowest_ms", 0))
        result.problems += told["problems"]
    result.seconds = time.monotonic() - began
    with open_hub(home) as hub:
        result.moves = len(list(hub.history("support", "production")))
        result.problems += [f.message for f in hub.doctor() if f.state == "broken"]
    return result


def _read(home: Home, stop: mmap.mmap) -> dict[str, Any]:
    count, slowest = 0, 0.0
    with Registry.open(home) as registry, closing(sqlite3.connect(home.registry)) as plain:
        plain.isolation_level = None
        # At least once, however late this process came to run.
        while not count or stop[0:1] != b"!":
            began = time.perf_counter()
            version = registry.resolve(AdapterRef("support"))
            slowest = max(slowest, time.perf_counter() - began)
            assert 1 <= version.number <= VERSIONS
            plain.execute("BEGIN")
            alias = plain.execute("SELECT version_id FROM aliases").fetchall()
            move = plain.execute(
                "SELECT to_version_id FROM alias_moves ORDER BY id DESC LIMIT 1"
            ).fetchall()
            plain.execute("COMMIT")
            assert len(alias) == 1
            assert alias == move
            count += 1
            time.sleep(PAUSE_S)
    return {"count": count, "slowest_ms": 1000 * slowest}


def _promote(home: Home, which: int, promotes: int) -> dict[str, Any]:
    """Each writer has numbers of its own, so that no promotion is refused as one already."""
    slowest = 0.0
    with open_hub(home) as hub:
        for turn in range(promotes):
            number = 1 + which + WRITERS * ((turn + 1) % (VERSIONS // WRITERS))
            began = time.perf_counter()
            hub.promote(
                f"support@{number}", "production", expect=None, force=True, why=f"turn {turn}"
            )
            slowest = max(slowest, time.perf_counter() - began)
            time.sleep(PAUSE_S)
    return {"count": promotes, "slowest_ms": 1000 * slowest}


def _child(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """Fork; its process id, and where it will say how it went."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, told
    try:
        answer = {**work(), "problems": []}
    except BaseException:  # whatever it is, the parent has to hear of it
        answer = {"problems": [traceback.format_exc()]}
    os.write(tell, json.dumps(answer).encode())
    os._exit(0)


def _wait(child: tuple[int, int]) -> dict[str, Any]:
    pid, told = child
    with os.fdopen(told, "rb") as stream:
        answer: dict[str, Any] = json.loads(stream.read() or b'{"problems": ["it died"]}')
    os.waitpid(pid, 0)
    return answer


def main() -> int:
    """`python -m tests.hub.reading FOLDER READERS PROMOTES`: prints the outcome as JSON."""
    folder, readers, promotes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    outcome = read_while_promoting(Home(folder / "home"), readers=readers, promotes=promotes)
    print(json.dumps(vars(outcome)))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
