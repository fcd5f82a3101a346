"""Several engines behind one gateway: who gets what, and who takes over."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from hub.errors import InvalidConfig, UsageError
from hub.home import Home
from hub.records import Base
from serve.engines.cores import shares
from serve.engines.spec import Api, EngineSpec, Loading
from serve.engines.supervisor import Launch, SupervisedEngine
from serve.run import engine_log, make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


@pytest.fixture
def doubles() -> Iterator[list[EngineDouble]]:
    with ExitStack() as stack:
        yield [stack.enter_context(EngineDouble()) for _ in range(3)]


@pytest.fixture
async def fleet(
    home: Home, base: Base, doubles: list[EngineDouble]
) -> AsyncIterator[Callable[[], Gateway]]:
    settings = Settings(
        base=base,
        engines_elsewhere=tuple(EngineSpec(double.url) for double in doubles),
        # More than any test here has adapters: by their ports, one engine may get nearly all.
        max_loras=32,
        max_cpu_loras=32,
        request_timeout_s=20,
    )
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await until(lambda: all(member.is_up for member in gateway.parts.fleet.members))
        yield lambda: gateway


def _asked(doubles: list[EngineDouble]) -> list[int]:
    return [len(double.asked) for double in doubles]


async def test_an_adapter_stays_where_it_is_loaded(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble], published: Publish
) -> None:
    """24 adapters asked for twice each, one after the other: one load each in all, and every
    engine has its share."""
    names = [f"task-{number}" for number in range(24)]
    for name in names:
        published(name)
    for _ in range(2):
        for name in names:
            answer = await fleet().chat(name)
            assert answer.json()["model"] == f"{name}@1"
    loads = [len(double.loads) for double in doubles]
    assert sum(loads) == 24
    assert min(loads) >= 1
    assert sum(_asked(doubles)) == 48


async def test_a_busy_favourite_spills_over(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble], published: Publish
) -> None:
    """Sixty requests at once for one adapter: up to sixteen go where it is, the rest are shared."""
    published("hot")
    await fleet().chat("hot")
    for double in doubles:
        double.hold.clear()
    asking = [asyncio.create_task(fleet().chat("hot")) for _ in range(60)]
    await until(lambda: sum(_asked(doubles)) == 61)
    for double in doubles:
        double.hold.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert min(_asked(doubles)) >= 10


async def test_the_base_goes_to_the_least_busy(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble]
) -> None:
    """Thirty at once: ten each."""
    for double in doubles:
        double.hold.clear()
    asking = [asyncio.create_task(fleet().chat("base")) for _ in range(30)]
    await until(lambda: sum(_asked(doubles)) == 30)
    assert _asked(doubles) == [10, 10, 10]
    for double in doubles:
        double.hold.set()
    await asyncio.gather(*asking)


@pytest.mark.parametrize("fault", ["die", "empty", "unavailable"])
async def test_what_fails_before_its_first_byte_is_asked_elsewhere(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble], published: Publish, fault: str
) -> None:
    """The client sees one good answer, and the engine that failed is not asked again for it."""
    published("support")
    await fleet().chat("support")
    (holder,) = [double for double in doubles if double.loads]
    holder.faults = [fault, fault]
    answer = await fleet().chat("support")
    assert (answer.status_code, answer.json()["model"]) == (200, "support@1")
    assert holder.faults == [fault]


async def test_a_dead_engine_is_gone_round(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble], published: Publish
) -> None:
    """One of three stops answering in the midst of traffic: nobody notices, /ready stays ready."""
    names = [f"task-{number}" for number in range(6)]
    for name in names:
        published(name)
        await fleet().chat(name)
    dead = next(double for double in doubles if double.loads)
    asking = [asyncio.create_task(fleet().chat(name)) for name in names * 5]
    dead.stop()
    answers = await asyncio.gather(*asking)
    answers += [await fleet().chat(name) for name in names]
    assert {answer.status_code for answer in answers} == {200}
    ready = await fleet().http.get("/ready")
    assert (ready.status_code, ready.json()["state"]) == (200, "ready")
    name = dead.url.removeprefix("http://")
    await until(lambda: not fleet().parts.fleet.members[doubles.index(dead)].is_up)
    engines = (await fleet().http.get("/ready")).json()["engines"]
    assert {key for key, state in engines.items() if state != "ready"} == {name}


async def test_an_engine_that_fails_again_and_again_is_left_out(
    fleet: Callable[[], Gateway], doubles: list[EngineDouble]
) -> None:
    """Healthy to its own mind, but every request to it dies: after five it is asked no more, until
    one request that tries it succeeds."""
    sick = doubles[0]
    sick.faults = ["die"] * 1000
    for _ in range(40):
        assert (await fleet().chat("base")).status_code == 200
    member = fleet().parts.fleet.members[0]
    assert not member.breaker.is_closed
    assert len(sick.asked) <= 7
    text = (await fleet().http.get("/metrics")).text
    label = sick.url.removeprefix("http://")
    assert f'hub_engine_circuit_open{{engine="{label}"}} 1.0' in text
    sick.faults = []

    async with asyncio.timeout(20):
        while not member.breaker.is_closed:
            assert (await fleet().chat("base")).status_code == 200
            await asyncio.sleep(0.1)


async def test_engines_that_come_later_are_taken_in(
    home: Home, base: Base, doubles: list[EngineDouble], published: Publish
) -> None:
    """One of two answers at the start: that is enough, and the other joins when it is up."""
    late = doubles[1]
    late.health = 503
    settings = Settings(
        base=base,
        engines_elsewhere=(EngineSpec(doubles[0].url), EngineSpec(late.url)),
        startup_timeout_s=0.5,
    )
    async with running(home, settings, make_engines(home, settings)) as gateway:
        assert (await gateway.chat("base")).status_code == 200
        await asyncio.sleep(1)
        assert not gateway.parts.fleet.members[1].is_up
        late.health = 200
        await until(lambda: gateway.parts.fleet.members[1].is_up)


async def test_engines_of_our_own_each_have_their_process_log_and_port(
    home: Home, base: Base, settings: Settings, published: Publish
) -> None:
    """One killed, the other answers meanwhile; the first comes back."""
    published("support")
    launch = Launch(
        lambda port: [sys.executable, "-m", "tests.serve.engine_double", str(port)], {}, "tiny"
    )
    engines = [
        SupervisedEngine(name, launch, engine_log(home, name), startup_s=30, silence_s=10)
        for name in ("engine-1", "engine-2")
    ]
    async with running(home, settings, engines) as gateway:
        assert len({engine.url for engine in engines}) == 2
        assert engine_log(home, "engine-1").exists()
        assert engine_log(home, "engine-2").exists()
        await gateway.chat("support")
        for engine in engines:
            assert engine._process is not None
            os.kill(engine._process._process.pid, signal.SIGKILL)
            assert (await gateway.chat("support")).status_code == 200
            await until(lambda engine=engine: engine.generation == 2)  # type: ignore[misc]
            await until(lambda: all(member.is_up for member in gateway.parts.fleet.members))


async def test_sglang_is_spoken_to_in_its_own_way(
    home: Home, base: Base, published: Publish
) -> None:
    """Its load calls have no /v1, and a request names base and adapter."""
    published("support")
    with EngineDouble(api="sglang") as double:
        settings = Settings(
            base=base, engines_elsewhere=(EngineSpec.parse(f"{double.url},api=sglang"),)
        )
        async with running(home, settings, make_engines(home, settings)) as gateway:
            answer = await gateway.chat("support")
            assert answer.json()["model"] == "support@1"
            (loaded,) = double.loads
            assert double.asked[0]["model"] == f"tiny:{loaded}"
            streamed = await gateway.stream("support")
            assert set(re.findall(rb'"model":"([^"]*)"', streamed)) == {b"support@1"}
            double.faults = ["refuse"]
            refused = (await gateway.chat("support")).json()["error"]["message"]
            assert refused == "`support@1` takes 16 tokens at most"
            double.restart()
            assert (await gateway.chat("support")).status_code == 200


def test_specs_say_what_is_wrong_with_them() -> None:
    """URL, options and template, each in words."""
    spec = EngineSpec.parse("http://ray:8000/,loads=lazy,name={base}:{name}")
    assert spec == EngineSpec("http://ray:8000", Loading.LAZY, Api.VLLM, "{base}:{name}")
    assert EngineSpec.parse("https://x:1,api=sglang").model_name("llama", "a@1#0") == "llama:a@1#0"
    for text, words in {
        "gpu1:8000": "use http://HOST:PORT",
        "http://": "use http://HOST:PORT",
        "http://x:99999": "use http://HOST:PORT",
        "http://x:port": "use http://HOST:PORT",
        "http://[::1": "use http://HOST:PORT",
        "http://x,name={name:d}": "use {name} once",
        "http://x,name={name!r}": "use {name} once",
        "http://x,loads=sometimes": "loads is 'sometimes': use explicit or lazy",
        "http://x,api=tgi": "api is 'tgi': use vllm or sglang",
        "http://x,name=all": "use {name} once",
        "http://x,name={name}{": "name template",
        "http://x,name={name}{other}": "use {name} once",
        "http://x,slow": "'slow' is none of",
        "http://x,loads=lazy,loads=lazy": "each once",
    }.items():
        with pytest.raises(
            UsageError, match="(?s).*" + words.replace("{", r"\{").replace("}", r"\}")
        ):
            EngineSpec.parse(text)


def test_settings_that_contradict_each_other_are_refused(settings: Settings) -> None:
    """All of them at once."""
    one = EngineSpec("http://x:1")
    with pytest.raises(InvalidConfig) as refused:
        replace(
            settings,
            engines_elsewhere=(one, one),
            engines=2,
            engine_args=("--max-model-len", "4096"),
            adapter_folder="/x",
            request_timeout_s=float("nan"),
            startup_timeout_s=float("inf"),
        )
    text = str(refused.value)
    assert "engine_args is for engines that are started here" in text
    assert "request_timeout_s must be above 0, and finite" in text
    assert "startup_timeout_s must be above 0, and finite" in text
    assert "given more than once" in text
    assert "engines counts those that are started here" in text
    assert "there is none" in text
    with pytest.raises(InvalidConfig, match="say where it finds adapters"):
        replace(settings, engines_elsewhere=(EngineSpec("http://x:1", Loading.LAZY),))


def test_cores_are_dealt_out_whole() -> None:
    """Every core once, neighbours together, none without; more engines than cores share."""
    assert shares([0, 1, 2, 3, 4, 5, 6], 3) == [(0, 1, 2), (3, 4), (5, 6)]
    assert shares([2, 5], 2) == [(2,), (5,)]
    assert Counter(core for own in shares([0, 1], 5) for core in own) == {0: 3, 1: 2}


def test_a_bound_engine_runs_on_its_cores_alone(home: Home) -> None:
    """It and its children, as the kernel says."""
    core = min(os.sched_getaffinity(0))
    script = "import os, subprocess, sys; print(os.sched_getaffinity(0)); " + (
        "print(subprocess.check_output([sys.executable, '-c', "
        "'import os; print(os.sched_getaffinity(0))'], text=True))"
    )
    guard = [sys.executable, "-m", "serve.engines.guard", "--cores", str(core), "--"]
    # The guard ends what it guards when its stdin ends.
    with subprocess.Popen(
        [*guard, sys.executable, "-uc", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read().split() == [f"{{{core}}}"] * 2
