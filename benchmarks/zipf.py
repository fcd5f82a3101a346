"""`make bench BENCH=zipf`: a thousand adapters where 8 run together and 32 are loaded.

Eight clients ask for 1,000 adapters, the one of rank r with a chance proportional to 1/r, one
answer of 32 tokens each. Beside it stands the same traffic over ten adapters that are all loaded,
with as many different ones at work at every moment: two requests that run together are for one
adapter of the ten exactly if they are for one of the thousand. It is asked through a gateway of its
own and of raw vLLM. The ways take turns, some hundred requests each; each gateway has an engine of
its own with the same flags, and the one that is not asked has nothing to do.

A request is a hit unless it made the gateway load something. The optimum answers one request after
the other in the order in which they came, but knows the whole trace before it begins, and has all
32 slots. Of requests that come one by one nobody can foresee which of the rare adapters comes
again, so with as many clients as there are places even a gateway that knew how popular each adapter
is would fall short of it (the figures say how far). It is held against it where requests queue: 64
clients, whose requests for one adapter can be answered together.
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from statistics import median
from time import perf_counter

import uvloop

from benchmarks.adapters import THOUSAND, thousand
from benchmarks.asking import Answer, Asker, askers, failed
from benchmarks.caching import least_often_used, least_recently_used, most_popular, optimum
from benchmarks.prepared import gateway, vllm, without_traffic
from benchmarks.report import Bar, at_least, at_most, percentile, short_asked, write
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store

ADAPTERS = 1_000
FEW = 10
LORAS, CPU_LORAS = 8, 32
CLIENTS = 8
TOKENS = 32
SEGMENT = 200
QUEUEING, QUEUEING_TOKENS = 64, 8
MANY_WAY, FEW_WAY, RAW_WAY = "gateway, 1,000 adapters", "gateway, 10 adapters", "raw vLLM, 10"


@dataclass(frozen=True)
class Size:
    segments: int
    queued: int


FULL = Size(segments=24, queued=4_000)
SHORT = Size(segments=3, queued=400)


@dataclass
class Found:
    goodput: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    loads: int = 0
    queued: list[Answer] = field(default_factory=list)
    queued_trace: list[str] = field(default_factory=list)
    queued_loads: int = 0


def main() -> int:
    short = short_asked()
    names = thousand(ADAPTERS)
    flags = {"max_loras": LORAS, "max_cpu_loras": CPU_LORAS}
    options = ("--max-loras", str(LORAS), "--max-cpu-loras", str(CPU_LORAS))
    without_traffic(THOUSAND)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(vllm(f"zipf-{n}", home=THOUSAND, **flags)) for n in ("many", "few")
        ]
        urls = [
            stack.enter_context(gateway(engine.url, *options, home=THOUSAND)) for engine in engines
        ]
        size = SHORT if short else FULL
        found = uvloop.run(measured(names, urls[0], urls[1], engines[1].url, size))
    return write("zipf", bars(found), figures(found), keep=not short)


async def measured(names: list[str], many: str, few: str, raw: str, size: Size) -> Found:
    found = Found()
    async with askers(many, few, raw) as (many_asker, few_asker, raw_asker):
        for name, folder in folders(names[:FEW]).items():
            await raw_asker.load(f"direct-{name}", folder)
        ways: dict[str, tuple[Asker, Callable[[], Naming]]] = {
            MANY_WAY: (many_asker, Naming),
            FEW_WAY: (few_asker, lambda: Few(names[:FEW])),
            RAW_WAY: (raw_asker, lambda: Few([f"direct-{name}" for name in names[:FEW]])),
        }
        asked = drawn(names)
        # One segment warms every way up; it is in the trace, because it is in the cache.
        for number in range(size.segments + 1):
            segment = list(islice(asked, SEGMENT))
            found.trace += segment
            order = list(ways)[:: 1 if number % 2 else -1]
            for way in order:
                asker, naming = ways[way]
                began = perf_counter()
                answers = await run(asker, segment, naming(), CLIENTS, TOKENS)
                done = len(answers) - len(failed(answers))
                found.answers.setdefault(way, []).extend(answers)
                if number:
                    rate = done / (perf_counter() - began)
                    found.goodput.setdefault(way, []).append(rate)
        found.loads = await loads(many_asker)
        found.queued_trace = list(islice(asked, size.queued))
        found.queued = await run(
            many_asker, found.queued_trace, Naming(), QUEUEING, QUEUEING_TOKENS
        )
        found.queued_loads = await loads(many_asker) - found.loads
    return found


async def loads(served: Asker) -> int:
    return int(json.loads(await served.get("/hub/residency"))["loads"])


def drawn(names: list[str]) -> Iterator[str]:
    """Without end; which adapter has which rank is drawn too."""
    draw = random.Random(1)
    ranked = draw.sample(names, len(names))
    weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))
    while True:
        yield draw.choices(ranked, cum_weights=weights)[0]


def folders(names: list[str]) -> dict[str, Path]:
    with Registry.open(THOUSAND) as registry:
        store = Store.of(registry)
        return {name: store.folder(registry.resolve(AdapterRef(name))) for name in names}


class Naming:
    """Which adapter a request of the trace is sent to: its own."""

    def begin(self, name: str) -> str:
        return name

    def end(self, name: str) -> None:
        pass


class Few(Naming):
    """One of a few: the same one for whoever runs with it and is for the same adapter."""

    def __init__(self, names: list[str]) -> None:
        self._free = list(names)
        self._used: dict[str, tuple[str, int]] = {}
        self._draw = random.Random(2)

    def begin(self, name: str) -> str:
        if name in self._used:
            few, users = self._used[name]
        else:
            few, users = self._free.pop(self._draw.randrange(len(self._free))), 0
        self._used[name] = few, users + 1
        return few

    def end(self, name: str) -> None:
        few, users = self._used.pop(name)
        if users > 1:
            self._used[name] = few, users - 1
        else:
            self._free.append(few)


async def run(
    asker: Asker, segment: list[str], naming: Naming, clients: int, tokens: int
) -> list[Answer]:
    left = iter(segment)
    answers = []

    async def client() -> None:
        for name in left:
            model = naming.begin(name)
            answers.append(await asker.chat(model, tokens))
            naming.end(name)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def bars(found: Found) -> list[Bar]:
    ratios = [
        many / few
        for many, few in zip(found.goodput[MANY_WAY], found.goodput[FEW_WAY], strict=True)
    ]
    best = optimum(found.queued_trace, CPU_LORAS)
    served = hit_rate(found.queued_trace, found.queued_loads)
    asked = len(found.trace) + len(found.queued_trace)
    lost = failed([*found.answers[MANY_WAY], *found.queued])
    return [
        at_most(f"failures, {asked:,} requests over {ADAPTERS:,} adapters", len(lost), "", 0),
        at_least("goodput, 1,000 / 10 adapters, median of pairs", median(ratios), "x", 0.95),
        at_least(f"hit rate / optimum, {QUEUEING} clients", served / best, "x", 0.9),
    ]


def hit_rate(trace: list[str], loaded: int) -> float:
    return 1 - loaded / len(trace)


def figures(found: Found) -> list[dict[str, object]]:
    ways: list[dict[str, object]] = [
        {
            "way": way,
            "requests": len(answers),
            "failed": len(failed(answers)),
            "requests_per_s": median(found.goodput[way]),
            "ttft_p50_ms": 1e3 * median(answer.ttft for answer in answers),
            "ttft_p99_ms": 1e3 * percentile([answer.ttft for answer in answers], 99),
        }
        for way, answers in found.answers.items()
    ]
    return [
        *ways,
        rates(f"hit rate, {CLIENTS} clients", found.trace, found.loads),
        rates(f"hit rate, {QUEUEING} clients", found.queued_trace, found.queued_loads),
    ]


def rates(what: str, trace: list[str], loaded: int) -> dict[str, object]:
    """Of the rules, each with all slots and one request after the other."""
    return {
        "way": what,
        "requests": len(trace),
        "served": hit_rate(trace, loaded),
        "optimum": optimum(trace, CPU_LORAS),
        "least_often_used": least_often_used(trace, CPU_LORAS),
        "most_popular": most_popular(trace, CPU_LORAS),
        "least_recently_used": least_recently_used(trace, CPU_LORAS),
    }


if __name__ == "__main__":
    sys.exit(main())
