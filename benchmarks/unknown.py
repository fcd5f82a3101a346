"""`make bench BENCH=unknown`: a million names that nobody has, each asked for once.

A gateway in front of the tests' double of vLLM, which counts what reaches it; names of every kind:
plain, with a version, with an alias, with a digest, and such as the grammar does not have. The
gateway's memory is that of its process after a first thousand, when what it imports late is there.
Raw vLLM gets a share of the same names.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.load import Counts, send_each
from benchmarks.prepared import prepared_home, serving, vllm
from benchmarks.processes import resident_mib
from benchmarks.report import at_most, exactly, short_asked, write
from hub.registry import Registry
from tests.serve.engine_double import EngineDouble

NAMES, RAW_NAMES = 1_000_000, 50_000
SHORT_NAMES, SHORT_RAW_NAMES = 30_000, 2_000
FIRST = 1_000
STEP = 10_000
PATH = "/v1/chat/completions"


@dataclass
class Flood:
    """What came of it; memory in MiB, after the first names and after every step."""

    answers: Counts = field(default_factory=dict)
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        return max(self.memory) - self.memory[0]

    @property
    def per_s(self) -> float:
        return sum(self.answers.values()) / self.seconds


def main() -> int:
    short = short_asked()
    home = prepared_home()
    with Registry.open(home) as registry:
        base = registry.bases.get().name
    with EngineDouble(base) as double, serving("--engine", double.url) as served:
        flood = flooded(served.url, served.pid, SHORT_NAMES if short else NAMES)
        reached = len(double.asked)
    with vllm("unknown-vllm") as engine:
        raw = flooded(engine.url, engine.pid, SHORT_RAW_NAMES if short else RAW_NAMES)
    asked = sum(flood.answers.values())
    bars = [
        at_most(f"growth of resident memory, {asked:,} unknown names", flood.growth, "MiB", 10),
        exactly("calls that reached the engine", reached, "", 0),
        exactly("answers other than 404", asked - flood.answers.get(404, 0), "", 0),
    ]
    figures = [
        {
            "way": way,
            "names": sum(found.answers.values()),
            "requests_per_s": found.per_s,
            "memory_first_mib": found.memory[0],
            "memory_last_mib": found.memory[-1],
            "growth_mib": found.growth,
            "statuses": " ".join(f"{s}: {n}" for s, n in sorted(found.answers.items())),
        }
        for way, found in (("gateway", flood), ("raw vLLM", raw))
    ]
    return write("unknown", bars, figures, keep=not short)


def flooded(url: str, pid: int, count: int) -> Flood:
    """Ask for so many names, and FIRST before."""
    flood = Flood()
    send_each(url, PATH, unknown_names(0, FIRST))
    flood.memory.append(resident_mib(pid))
    began = perf_counter()
    for start in range(FIRST, FIRST + count, STEP):
        step = min(STEP, FIRST + count - start)
        for status, times in send_each(url, PATH, unknown_names(start, step)).items():
            flood.answers[status] = flood.answers.get(status, 0) + times
        flood.memory.append(resident_mib(pid))
    flood.seconds = perf_counter() - began
    return flood


def unknown_names(start: int, count: int) -> Iterator[str]:
    """Each a different one."""
    kinds = (
        "nobody-{0}",
        "team-{0}/nobody@7",
        "support@{0}",
        "nobody-{0}@staging",
        "nobody@sha256:{0:012x}",
        "Nobody/Of-{0}-This-Grammar",
    )
    for number in range(start, start + count):
        # No hub has as many versions of one adapter.
        yield kinds[number % len(kinds)].format(10_000_000 + number)


if __name__ == "__main__":
    sys.exit(main())
