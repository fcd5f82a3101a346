"""`make bench BENCH=churn`: versions come and go and engines are killed, and no request fails.

Two engines with their own cores. Every two seconds a new version is published, promoted, and
rolled back; every minute an engine is killed with SIGKILL, in turn vLLM's server and its engine
core, while more streams than usual have begun on both. Six clients ask for what is in production,
two for versions by number, all streaming. The adapters are trained to say a word, so each answer is
held against the version that it names, and that against when it was in production.

A failure is whatever is neither a whole answer nor a stream that ended with the event
`engine_interrupted`; the gateway must have counted exactly those that the clients saw.

Beside it: two raw vLLM with the same flags, asked in turn by as many clients, of which one is
killed.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter

import uvloop

from benchmarks.adapters import TALKING, home_on, word_adapters
from benchmarks.asking import Answer, Asker, Ending, ask_on, askers, failed
from benchmarks.churnwork import ADAPTER, Publisher, Record, kill_engine
from benchmarks.prepared import Server, base_folder, serving, vllm
from benchmarks.processes import descendants, kill
from benchmarks.report import Bar, at_least, exactly, short_asked, write
from hub.home import Home

EVERY_S = 2.0
KILL_EVERY_S = 60.0
CLIENTS, BY_NUMBER = 6, 2
TOKENS = 24
# Asked for before each kill, of as many versions, so that each engine has some: as long as can be.
CAUGHT, CAUGHT_TOKENS = 12, 38
SECONDS, SHORT_SECONDS = 600.0, 60.0
RAW_SECONDS = 30.0


@dataclass
class Churned:
    answers: list[Answer] = field(default_factory=list)
    record: Record = field(default_factory=Record)
    counted_cuts: int = 0
    lives: dict[str, int] = field(default_factory=dict)
    retries: int = 0

    @property
    def cut(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.ending is Ending.INTERRUPTED]

    @property
    def failed(self) -> list[Answer]:
        return [one for one in failed(self.answers) if one.ending is not Ending.INTERRUPTED]

    @property
    def wrong(self) -> list[str]:
        return [why for answer in self.answers if (why := self.record.wrong(answer))]


def main() -> int:
    short = short_asked()
    base = base_folder()
    spoken = word_adapters(TALKING, base)
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home")
        churned = churn(home, base, spoken, SHORT_SECONDS if short else SECONDS)
        raw = uvloop.run(beside(next(iter(spoken.values()))))
    return write("churn", bars(churned), figures(churned, raw), keep=not short)


def churn(home: Home, base: Path, spoken: dict[str, Path], seconds: float) -> Churned:
    """In a new home on `base`, with adapters that say their words. Raises what goes wrong with the
    publishing."""
    home_on(home, base)
    churned = Churned()
    publisher = Publisher(home, spoken, churned.record, home.root.parent / "made", EVERY_S)
    publisher.start()
    try:
        publisher.first.wait()
        with serving("--engines", "2", home=home) as served:
            uvloop.run(asked(served, churned, seconds))
    finally:
        publisher.stop()
    return churned


async def asked(served: Server, churned: Churned, seconds: float) -> None:
    end = perf_counter() + seconds
    draw = random.Random(1)
    async with askers(served.url) as (through,):

        async def production() -> Answer:
            return await through.chat(ADAPTER, TOKENS)

        async def by_number() -> Answer:
            # Some of them are new to both engines; the rest are loaded already, or were.
            number = draw.choice(published(churned.record)[-40:])
            return await through.chat(f"{ADAPTER}@{number}", TOKENS)

        def over() -> bool:
            return perf_counter() > end

        killing = asyncio.create_task(killed(served, through, churned, end))
        both = await asyncio.gather(
            ask_on(production, CLIENTS, over), ask_on(by_number, BY_NUMBER, over)
        )
        caught = await killing
        churned.answers = [answer for some in (*both, caught) for answer in some]
        await all_up(through)
        told = await metrics(through)
    churned.counted_cuts = int(sum(told["hub_streams_interrupted_total"].values()))
    churned.retries = int(sum(told["hub_engine_retries_total"].values()))
    churned.lives = {engine: int(value) for engine, value in told["hub_engine_lives_total"].items()}


def published(record: Record) -> list[int]:
    """All numbers but the last, which may be in the making: its word is noted before it is."""
    return sorted(record.words)[:-1]


async def all_up(served: Asker) -> None:
    """Raises TimeoutError when an engine that was killed does not come back."""
    async with asyncio.timeout(300):
        states = json.loads(await served.get("/ready"))["engines"]
        while set(states.values()) != {"ready"}:
            await asyncio.sleep(1)
            states = json.loads(await served.get("/ready"))["engines"]


async def killed(served: Server, through: Asker, churned: Churned, end: float) -> list[Answer]:
    """The first kill comes after half a minute, the last one early enough to be felt. What the
    streams came to that had begun just then."""
    caught: list[Answer] = []
    due = perf_counter() + KILL_EVERY_S / 2
    while due < end:
        await asyncio.sleep(due - perf_counter())
        numbers = published(churned.record)[-CAUGHT:]
        begun = [asyncio.Event() for _ in numbers]
        asked = [
            asyncio.create_task(through.chat(f"{ADAPTER}@{number}", CAUGHT_TOKENS, begun=event))
            for number, event in zip(numbers, begun, strict=True)
        ]
        for first in islice(asyncio.as_completed([event.wait() for event in begun]), CAUGHT // 2):
            await first
        core = len(churned.record.kills) % 2 == 1
        churned.record.kills.append(kill_engine(served.pid, core=core))
        caught += await asyncio.gather(*asked)
        due += KILL_EVERY_S
    return caught


async def metrics(asker: Asker) -> dict[str, dict[str, float]]:
    """Samples by name and labels."""
    found: dict[str, dict[str, float]] = {}
    for line in (await asker.get("/metrics")).splitlines():
        if not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            name, _, labels = sample.partition("{")
            found.setdefault(name, {})[labels.rstrip("}")] = float(value)
    for name in ("hub_streams_interrupted_total", "hub_engine_retries_total"):
        found.setdefault(name, {})
    return found


async def beside(adapter: Path) -> list[Answer]:
    """Raw vLLM, twice, of which one is killed half-way."""
    with ExitStack() as stack:
        servers = [stack.enter_context(raw(number)) for number in range(2)]
        async with askers(*(server.url for server in servers)) as engines:
            for engine in engines:
                await engine.load(ADAPTER, adapter)
            turns = 0
            end = perf_counter() + RAW_SECONDS

            async def in_turn() -> Answer:
                nonlocal turns
                turns += 1
                answer = await engines[turns % 2].chat(ADAPTER, TOKENS)
                if answer.ending is not Ending.DONE:
                    await asyncio.sleep(0.2)  # as long as an answer takes
                return answer

            async def kill_one() -> None:
                await asyncio.sleep(RAW_SECONDS / 2)
                kill(servers[0].pid, *descendants(servers[0].pid))

            answers, _ = await asyncio.gather(
                ask_on(in_turn, CLIENTS + BY_NUMBER, lambda: perf_counter() > end), kill_one()
            )
            return answers


def raw(number: int) -> AbstractContextManager[Server]:
    return vllm(f"churn-vllm-{number}", home=TALKING, number=number, engines=2)


def bars(churned: Churned) -> list[Bar]:
    for answer in churned.failed[:20]:
        print(json.dumps(vars(answer)), file=sys.stderr)
    for why in churned.wrong[:20]:
        print(why, file=sys.stderr)
    kills = [kill for kill in churned.record.kills if kill != "nothing"]
    return [
        at_least("engines killed", len(kills), "", len(churned.record.kills) or 1),
        exactly("failed requests", len(churned.failed), "", 0),
        exactly("answers from a wrong version", len(churned.wrong), "", 0),
        at_least("streams cut, each ended by engine_interrupted", len(churned.cut), "", 1),
        exactly("of them counted by the gateway", churned.counted_cuts, "", len(churned.cut)),
    ]


def figures(churned: Churned, raw: list[Answer]) -> list[dict[str, object]]:
    lost = failed(raw)
    return [
        {
            "way": "gateway, two engines",
            "requests": len(churned.answers),
            "whole": sum(answer.ending is Ending.DONE for answer in churned.answers),
            "cut": len(churned.cut),
            "failed": len(churned.failed),
            "kills": ", ".join(f"{n} {what}" for what, n in Counter(churned.record.kills).items()),
            "engine_lives": sum(churned.lives.values()),
            "retries": churned.retries,
            "versions_published": len(churned.record.words),
            "moves_of_production": len(churned.record.moves),
            "longest_answer_s": max(answer.seconds for answer in churned.answers),
        },
        {
            "way": "raw vLLM, two engines, one killed",
            "requests": len(raw),
            "whole": len(raw) - len(lost),
            "cut": sum(bool(answer.first) for answer in lost),
            "failed": sum(not answer.first for answer in lost),
            "kills": "1 server",
        },
    ]


if __name__ == "__main__":
    sys.exit(main())
