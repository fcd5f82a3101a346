"""`make bench BENCH=unload`: a hundred adapters unloaded while they are answering.

Eight adapters at a time, as many as run together, two streams each. When every stream has begun,
all eight are told to go; the gateway answers when the last stream is done and the adapter is gone.
Its slot is free when that answer is there and the engine's own list has the adapter no more. Beside
it stands raw vLLM, whose clients wait for their streams and unload themselves: told before, it
would answer new requests with 404 at once and tell nobody when the adapter is out of use.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import uvloop

from benchmarks.adapters import THOUSAND, thousand
from benchmarks.asking import Answer, Asker, askers, failed
from benchmarks.prepared import gateway, vllm
from benchmarks.report import Bar, at_most, exactly, short_asked, write
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store

ADAPTERS = 100
AT_ONCE = 8
STREAMS = 2
TOKENS = 96
CPU_LORAS = 256


@dataclass
class Found:
    """Of one way; `free_s` are seconds from an adapter's last token to its slot's being free."""

    answers: list[Answer] = field(default_factory=list)
    free_s: list[float] = field(default_factory=list)
    told_while_streaming: int = 0
    still_there: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """`unload` returns when the adapter is gone; `when_done`: it may only be called when its
    streams are. What the engine calls the adapter begins with `at_engine`."""

    asker: Asker
    name: Callable[[str], str]
    at_engine: Callable[[str], str]
    unload: Callable[[str], Awaitable[object]]
    when_done: bool


def main() -> int:
    short = short_asked()
    names = thousand()[: 16 if short else ADAPTERS]
    options = ("--max-loras", str(AT_ONCE), "--max-cpu-loras", str(CPU_LORAS))
    with (
        vllm("unload-vllm", home=THOUSAND, max_loras=AT_ONCE, max_cpu_loras=CPU_LORAS) as engine,
        gateway(engine.url, *options, home=THOUSAND) as served,
    ):
        found = uvloop.run(measured(engine.url, served, names))
    return write("unload", bars(found["gateway"], len(names)), figures(found), keep=not short)


async def measured(engine: str, served: str, names: list[str]) -> dict[str, Found]:
    found = {"gateway": Found(), "raw vLLM": Found()}
    async with askers(engine, served) as (raw, through):
        ways = {
            "gateway": Way(
                through,
                str,
                lambda name: f"{name}@",
                lambda name: through.post("/hub/residency/unload", {"adapter": name}),
                when_done=False,
            ),
            "raw vLLM": Way(raw, direct, direct, raw.unload, when_done=True),
        }
        folders = _folders(names)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            for name in some:
                await raw.load(direct(name), folders[name])
            order = list(ways)[:: 1 if start // AT_ONCE % 2 else -1]
            for way in order:
                await gone(found[way], ways[way], raw, some)
    return found


def direct(name: str) -> str:
    """The same adapter's own name at vLLM."""
    return f"direct-{name}"


async def gone(found: Found, way: Way, engine: Asker, names: list[str]) -> None:
    """Eight adapters answer, and are unloaded meanwhile."""
    streams = {
        name: [asyncio.create_task(way.asker.chat(way.name(name), TOKENS)) for _ in range(STREAMS)]
        for name in names
    }
    await _all_streaming(engine, len(names) * STREAMS)
    await asyncio.gather(*(unloaded(found, way, engine, name, streams[name]) for name in names))


async def unloaded(
    found: Found, way: Way, engine: Asker, name: str, streams: "list[asyncio.Task[Answer]]"
) -> None:
    if way.when_done:
        await asyncio.wait(streams)
    else:
        found.told_while_streaming += not any(stream.done() for stream in streams)
    try:
        await way.unload(way.name(name))
    except RuntimeError as error:
        found.refused.append(str(error))
        return
    finally:
        answers = [await stream for stream in streams]
        found.answers += answers
    free = perf_counter()
    found.free_s.append(max(0.0, free - max(answer.ended for answer in answers)))
    listed = json.loads(await engine.get("/v1/models"))["data"]
    if any(model["id"].startswith(way.at_engine(name)) for model in listed):
        found.still_there.append(name)


async def _all_streaming(engine: Asker, wanted: int) -> None:
    """Until vLLM's own metrics say that so many requests run; not for ever, if one has ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while await _running(engine) < wanted:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)


async def _running(engine: Asker) -> float:
    text = await engine.get("/metrics")
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("vllm:num_requests_running")
    )


def _folders(names: list[str]) -> dict[str, Path]:
    with Registry.open(THOUSAND) as registry:
        store = Store.of(registry)
        return {name: store.folder(registry.resolve(AdapterRef(name))) for name in names}


def bars(found: Found, adapters: int) -> list[Bar]:
    errors = len(failed(found.answers)) + len(found.refused) + len(found.still_there)
    errors += sum(answer.finish != "length" for answer in found.answers)
    return [
        exactly("adapters unloaded", len(found.free_s), "", adapters),
        exactly("of them told while all their streams ran", found.told_while_streaming, "",
                adapters),
        exactly("errors, cut answers, adapters still there", errors, "", 0),
        at_most("slot free after the last token, worst", max(found.free_s), "s", 1),
    ]  # fmt: skip


def figures(found: dict[str, Found]) -> list[dict[str, object]]:
    return [
        {
            "way": way,
            "streams": len(one.answers),
            "failed": len(failed(one.answers)),
            "refused": len(one.refused),
            "free_p50_ms": 1e3 * median(one.free_s),
            "free_max_ms": 1e3 * max(one.free_s),
        }
        for way, one in found.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
