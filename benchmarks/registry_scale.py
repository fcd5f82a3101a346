"""`make bench BENCH=registry_scale`: 10,000 versions of 1,000 adapters, in one registry.

They are made as a user makes them, by the real publish with all its checks, hashes and syncs; only
the effect on the base is not measured, because that is the model's cost and not the registry's. The
last publish must cost what the first did. Then the registry is asked: in this process, over HTTP
with the client that `hub --hub URL` uses, and by whole `hub` processes. Beside them stand the same
look-up as a bare SQL query and `python -c pass`.
"""

import gc
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx

from benchmarks.prepared import free_port
from benchmarks.report import Bar, at_most, percentile, write
from hub.cli.main import cli
from hub.cli.where import open_hub
from hub.home import Home
from hub.names import parse_adapter_reference
from hub.operations import Operations
from hub.registry import Registry
from tests.hub.making import maker

ADAPTERS = 1_000
VERSIONS = 10
EDGE = 500
RESOLVES = 20_000
REMOTE_RESOLVES = 4_000
PROCESSES = 15
HUB = Path(sys.executable).parent / "hub"


def main() -> int:
    assert cli  # imported first, so that what `hub` loads is not counted below
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.root.mkdir()
        costs = publish_all(home)
        references = asked_for(home)
        inside = resolved_here(home, references)
        bare = looked_up(home)
        remote = resolved_remotely(home, references[:REMOTE_RESOLVES])
        walls = {
            name: median(processes(command, home))
            for name, command in {
                "python -c pass": [sys.executable, "-c", "pass"],
                "hub ls": [str(HUB), "ls"],
                "hub ls --json": [str(HUB), "ls", "--json"],
                "hub show": [str(HUB), "show", references[0]],
                "hub gc --dry-run": [str(HUB), "gc", "--dry-run"],
                "hub doctor --quick": [str(HUB), "doctor", "--quick"],
            }.items()
        }
        size = home.registry.stat().st_size
    first, last = median(costs[:EDGE]), median(costs[-EDGE:])
    bars: list[Bar] = [
        at_most("resolve in process, p99", 1e3 * percentile(inside, 99), "ms", 1),
        at_most("resolve over HTTP, p99", 1e3 * percentile(remote, 99), "ms", 5),
        at_most("hub ls, whole process, median", walls["hub ls"], "s", 0.8),
        at_most(f"publish, median of the last {EDGE} / of the first", last / first, "x", 1.2),
    ]
    figures = [
        {"what": "versions", "count": len(costs), "adapters": ADAPTERS, "registry_bytes": size},
        {
            "what": "publish",
            "first_p50_ms": 1e3 * first,
            "last_p50_ms": 1e3 * last,
            "p99_ms": 1e3 * percentile(costs, 99),
            "all_s": sum(costs),
        },
        spread("resolve in process", inside),
        spread("the same look-up as a bare SQL query", bare),
        spread("resolve over HTTP", remote),
        *({"what": name, "median_s": seconds} for name, seconds in walls.items()),
    ]
    return write("registry_scale", bars, figures)


def publish_all(home: Home) -> list[float]:
    """Seconds that each publish took, in order; every adapter gets its next version in turn."""
    costs = []
    with Registry.create(home) as registry:
        make = maker(registry, home.root.parent / "made")
        for number in range(VERSIONS):
            for adapter in range(ADAPTERS):
                began = time.perf_counter()
                make(f"team-{adapter % 20}/task-{adapter:04}")
                costs.append(time.perf_counter() - began)
            print(f"{(number + 1) * ADAPTERS} versions, {sum(costs):.0f} s", file=sys.stderr)
    return costs


def asked_for(home: Home) -> list[str]:
    """References of every kind, drawn at random."""
    draw = random.Random(1)
    with Registry.open(home) as registry:
        versions = registry.versions.all()
    references = []
    for _ in range(RESOLVES):
        version = draw.choice(versions)
        kinds = (
            version.adapter,
            f"{version.adapter}@production",
            str(version),
            f"{version.adapter}@sha256:{version.digest[:12]}",
        )
        references.append(draw.choice(kinds))
    return references


def resolved_here(home: Home, references: Sequence[str]) -> list[float]:
    with Registry.open(home) as registry:
        return timed(lambda text: registry.resolve(parse_adapter_reference(text)), references)


def looked_up(home: Home) -> list[float]:
    """What the database alone takes to find a production version."""
    draw = random.Random(2)
    names = [f"team-{a % 20}/task-{a:04}" for a in (draw.randrange(ADAPTERS) for _ in range(2000))]
    connection = sqlite3.connect(home.registry)
    sql = (
        "SELECT number, digest FROM aliases JOIN adapters ON adapters.id = aliases.adapter_id"
        " JOIN versions ON versions.id = version_id WHERE name = ? AND alias = 'production'"
    )
    seconds = timed(lambda name: connection.execute(sql, [name]).fetchone(), names)
    connection.close()
    return seconds


def resolved_remotely(home: Home, references: Sequence[str]) -> list[float]:
    with serving(home) as url, open_hub(url) as hub:
        asked: Operations = hub
        return timed(asked.resolve, references)


@contextmanager
def serving(home: Home) -> Iterator[str]:
    """`hub serve --registry-only`; its address."""
    port = free_port()
    process = subprocess.Popen(
        [str(HUB), "serve", "--registry-only", "--port", str(port)],
        cwd=home.root,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("`hub serve --registry-only` did not come up")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def timed(ask: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Seconds of each call, after some that warm up."""
    for text in texts[:200]:
        ask(text)
    gc.collect()
    seconds = []
    for text in texts:
        began = time.perf_counter()
        ask(text)
        seconds.append(time.perf_counter() - began)
    return seconds


def processes(command: Sequence[str], home: Home) -> list[float]:
    seconds = []
    for run in range(PROCESSES + 1):
        began = time.perf_counter()
        subprocess.run(command, cwd=home.root, check=True, capture_output=True)
        if run:  # the first fills the file cache
            seconds.append(time.perf_counter() - began)
    return seconds


def spread(what: str, seconds: Sequence[float]) -> dict[str, object]:
    return {
        "what": what,
        "count": len(seconds),
        "p50_ms": 1e3 * median(seconds),
        "p99_ms": 1e3 * percentile(seconds, 99),
        "max_ms": 1e3 * max(seconds),
    }


if __name__ == "__main__":
    sys.exit(main())
