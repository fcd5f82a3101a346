"""`make bench BENCH=cold`: an adapter's first request, beside raw vLLM told to load it.

One engine, asked through the gateway and directly in turn. The price of a first request is its time
to the first token less that of the same adapter asked again: through the gateway, which checks the
files, leases and loads on the way, and at vLLM, where `load_lora_adapter` is called first and its
time counts. Then 64 clients ask for a new adapter at once, and the engine's own log tells how often
it was loaded. Last, four clients keep asking for an adapter that is loaded while others are being
loaded and asked for the first time, four a second, on either way.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import uvloop

from benchmarks.adapters import THOUSAND, thousand
from benchmarks.asking import Answer, Asker, ask_on, askers, failed
from benchmarks.prepared import Server, gateway, vllm, without_traffic
from benchmarks.report import Bar, at_most, exactly, percentile, short_asked, write
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store

TOKENS = 16
WARM = 3
AT_ONCE = 64
CLIENTS = 4
LOADS_PER_S = 4.0
# More than are ever loaded here: what is measured is loading, and no eviction on either way.
CPU_LORAS = 1024


@dataclass(frozen=True)
class Size:
    pairs: int
    crowds: int
    segments: int  # on each way
    segment_s: float


FULL = Size(pairs=80, crowds=5, segments=8, segment_s=10)
SHORT = Size(pairs=8, crowds=2, segments=2, segment_s=3)


@dataclass
class Found:
    price: dict[str, list[float]] = field(default_factory=lambda: {"raw": [], "gateway": []})
    warm: dict[str, list[float]] = field(default_factory=lambda: {"raw": [], "gateway": []})
    crowds: list[int] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=lambda: {"raw": [], "gateway": []})
    loaded_beside: dict[str, int] = field(default_factory=lambda: {"raw": 0, "gateway": 0})
    failed: list[Answer] = field(default_factory=list)


class Ways:
    """The same adapters on both ways; at vLLM each has a name of its own."""

    def __init__(self, raw: Asker, served: Asker, folders: dict[str, Path]) -> None:
        self._raw = raw
        self._served = served
        self._folders = folders

    async def first(self, way: str, name: str, tokens: int) -> tuple[float, Answer]:
        """Seconds to the first token of an adapter that is not loaded, its load included."""
        began = perf_counter()
        if way == "raw":
            await self._raw.load(f"direct-{name}", self._folders[name])
        answer = await self.again(way, name, tokens)
        return answer.first - began, answer

    async def again(self, way: str, name: str, tokens: int) -> Answer:
        if way == "raw":
            return await self._raw.chat(f"direct-{name}", tokens)
        return await self._served.chat(name, tokens)


def main() -> int:
    short = short_asked()
    size = SHORT if short else FULL
    names = thousand()
    with Registry.open(THOUSAND) as registry:
        store = Store.of(registry)
        folders = {n: store.folder(registry.resolve(AdapterRef(n))) for n in names}
    without_traffic(THOUSAND)
    slots = ("--max-cpu-loras", str(CPU_LORAS))
    with (
        vllm("cold-vllm", home=THOUSAND, max_cpu_loras=CPU_LORAS) as engine,
        gateway(engine.url, *slots, home=THOUSAND) as served,
    ):
        found = uvloop.run(measured(engine, served, folders, size))
    return write("cold", bars(found), figures(found), keep=not short)


async def measured(engine: Server, served: str, folders: dict[str, Path], size: Size) -> Found:
    found = Found()
    unused = iter(folders)
    async with askers(engine.url, served) as (raw, through):
        ways = Ways(raw, through, folders)
        settled = next(unused)
        for _ in range(10):
            for way in found.price:
                await (ways.first if _ == 0 else ways.again)(way, settled, TOKENS)
        for number, name in enumerate(islice(unused, size.pairs)):
            for way in alternated(number):
                await paid(found, ways, way, name)
        for name in islice(unused, size.crowds):
            with loads(engine, found):
                asked = [ways.again("gateway", name, TOKENS) for _ in range(AT_ONCE)]
                found.failed += failed(await asyncio.gather(*asked))
        for number in range(size.segments):
            new = list(islice(unused, int(size.segment_s * LOADS_PER_S)))
            for way in alternated(number):
                await beside(found, ways, way, settled, new, size.segment_s)
    return found


def alternated(number: int) -> tuple[str, str]:
    return ("raw", "gateway") if number % 2 else ("gateway", "raw")


async def paid(found: Found, ways: Ways, way: str, name: str) -> None:
    cold, answer = await ways.first(way, name, TOKENS)
    again = [await ways.again(way, name, TOKENS) for _ in range(WARM)]
    found.failed += failed([answer, *again])
    warm = median(one.ttft for one in again)
    found.warm[way].append(warm)
    found.price[way].append(cold - warm)


@contextmanager
def loads(engine: Server, found: Found) -> Iterator[None]:
    """How often the engine was told to load something meanwhile, as its access log has it."""

    def told() -> int:
        return engine.log.read_text(errors="replace").count("POST /v1/load_lora_adapter ")

    before = told()
    yield
    found.crowds.append(told() - before)


async def beside(
    found: Found, ways: Ways, way: str, settled: str, new: list[str], seconds: float
) -> None:
    """What the clients of a loaded adapter see while `new` ones are loaded one after another."""
    end = perf_counter() + seconds

    async def load_on() -> None:
        began = perf_counter()
        for number, name in enumerate(new):
            await asyncio.sleep(max(0.0, began + number / LOADS_PER_S - perf_counter()))
            if perf_counter() > end:
                return
            _, answer = await ways.first(way, name, 1)
            found.failed += failed([answer])
            found.loaded_beside[way] += 1

    answers, _ = await asyncio.gather(
        ask_on(lambda: ways.again(way, settled, TOKENS), CLIENTS, lambda: perf_counter() > end),
        load_on(),
    )
    found.failed += failed(answers)
    found.others[way] += [answer.seconds for answer in answers]


def bars(found: Found) -> list[Bar]:
    price = {way: median(values) for way, values in found.price.items()}
    p99 = {way: percentile(values, 99) for way, values in found.others.items()}
    return [
        at_most("price of a first request, gateway / raw", price["gateway"] / price["raw"], "x",
                1.25),
        exactly(f"loads for {AT_ONCE} first requests at once, worst of {len(found.crowds)}",
                max(found.crowds, key=lambda count: abs(count - 1)), "", 1),
        at_most("others' p99 while adapters load, gateway / raw", p99["gateway"] / p99["raw"], "x",
                1.1),
        at_most("requests that failed", len(found.failed), "", 0),
    ]  # fmt: skip


def figures(found: Found) -> list[dict[str, object]]:
    return [
        {
            "way": way,
            "first_less_warm_ms": 1e3 * median(found.price[way]),
            "warm_ttft_ms": 1e3 * median(found.warm[way]),
            "first_requests": len(found.price[way]),
            "others_p50_ms": 1e3 * median(found.others[way]),
            "others_p99_ms": 1e3 * percentile(found.others[way], 99),
            "others_requests": len(found.others[way]),
            "loaded_beside": found.loaded_beside[way],
        }
        for way in found.price
    ]


if __name__ == "__main__":
    sys.exit(main())
