"""How much a key may ask: a rate, so many at once with a queue of their own, and fairness."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from hub.errors import Overloaded, RateLimited
from hub.facts import KeyFacts
from hub.home import Home
from serve.doors.rates import Rates
from serve.placement.turns import WAITING_PER_RUNNING, Turn, Turns
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import MESSAGES, Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble
from tests.serve.keyed import Keys, keys

__all__ = ["keys"]

BODY = {"model": "base", "messages": MESSAGES}


def key(rate: int | None, public: str = "k") -> KeyFacts:
    return KeyFacts(
        public, public, ("infer",), None, rate, None, "", "", None, None, None, "living"
    )


def test_a_bucket_holds_a_minutes_worth_and_fills_steadily() -> None:
    """60 a minute: 60 at once, then one a second; one that rests gains no more than a minute."""
    at = 0.0
    rates = Rates(lambda: at)
    for left in range(59, -1, -1):
        assert rates.take(key(60))["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RateLimited) as refused:
        rates.take(key(60))
    assert refused.value.retry_after_s == 1
    at += 0.999
    with pytest.raises(RateLimited):
        rates.take(key(60))
    at += 0.002
    assert rates.take(key(60))["x-ratelimit-reset-requests"] == "60.0s"
    at += 10_000
    assert rates.headers(key(60))["x-ratelimit-limit-requests"] == "60"
    for _ in range(60):
        rates.take(key(60))
    with pytest.raises(RateLimited):
        rates.take(key(60))
    assert rates.take(key(60, "another")) != {}
    assert rates.take(key(None, "free")) == {}


def test_a_slow_rate_says_how_long_it_takes() -> None:
    """1 a minute: Retry-After is what is left of the minute, rounded up."""
    at = 0.0
    rates = Rates(lambda: at)
    rates.take(key(1))
    at += 14.5
    with pytest.raises(RateLimited) as refused:
        rates.take(key(1))
    assert refused.value.retry_after_s == 46
    at += 46
    rates.take(key(1))


async def test_more_than_the_rate_gets_429(gateway: Gateway, keys: Keys) -> None:
    """In OpenAI's shape with Retry-After and its headers, before anything is done; for this key
    alone."""
    limited, free = keys("limited", rate_per_minute=3), keys("free")
    for left in ("2", "1", "0"):
        answer = await gateway.http.post("/v1/chat/completions", json=BODY, headers=limited)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == left
    for path in ("/v1/models", "/hub/adapters"):
        answer = await gateway.http.get(path, headers=limited)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    answer = await gateway.http.post("/v1/chat/completions", json=BODY, headers=free)
    assert answer.status_code == 200
    assert "x-ratelimit-limit-requests" not in answer.headers
    assert len(gateway.logged()) == 4


# -- at once ---------------------------------------------------------------------------------------


@pytest.fixture
def turns() -> Turns:
    return Turns(running=4, waiting=100)


async def waiting(turns: Turns, lane: tuple[str, str], most: int | None) -> "asyncio.Task[Turn]":
    task = asyncio.create_task(turns.take(lane, most=most))
    await asyncio.sleep(0)
    return task


async def test_no_more_of_a_key_run_than_it_may_have(turns: Turns) -> None:
    """Over all adapters; what it leaves free is others', at once, though some of its own wait."""
    held = [await turns.take(("a", name), most=2) for name in ("x", "y")]
    blocked = [await waiting(turns, ("a", name), 2) for name in ("x", "y", "z")]
    assert turns.running == 2
    other = [await turns.take(("b", "x")) for _ in range(2)]
    late = await waiting(turns, ("b", "x"), None)
    other[0].release()
    await asyncio.sleep(0)
    assert late.done()
    assert not any(task.done() for task in blocked)
    held[0].release()
    await asyncio.sleep(0)
    assert [task.done() for task in blocked].count(True) == 1
    for turn in (held[1], other[1], late.result()):
        turn.release()
    for _ in range(3):
        await asyncio.sleep(0)
        for task in blocked:
            if task.done():
                task.result().release()
    await asyncio.gather(*blocked)
    assert (turns.running, turns.waiting) == (0, 0)


async def test_a_key_has_a_queue_of_its_own(turns: Turns) -> None:
    """Beyond it 429, while others still come in; who leaves makes room."""
    await turns.take(("a", "x"), most=1)
    tasks = [await waiting(turns, ("a", "x"), 1) for _ in range(WAITING_PER_RUNNING)]
    with pytest.raises(Overloaded, match="of this API key"):
        await turns.take(("a", "y"), most=1)
    assert (await turns.take(("b", "x"), most=1)).waited_s == 0
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    again = await waiting(turns, ("a", "y"), 1)
    assert turns.waiting == WAITING_PER_RUNNING
    for task in (*tasks, again):
        task.cancel()


async def test_keys_share_before_adapters_do(turns: Turns) -> None:
    """One key with many adapters gets no more than one key with one."""
    many = [await turns.take(("a", f"adapter-{n}")) for n in range(4)]
    queued = [await waiting(turns, ("a", f"adapter-{n}"), None) for n in range(4)]
    one = [await waiting(turns, ("b", "x"), None) for _ in range(2)]
    for turn in many[:2]:
        turn.release()
    await asyncio.sleep(0)
    assert all(task.done() for task in one)
    assert not any(task.done() for task in queued)
    for task in queued:
        task.cancel()


async def test_the_engine_sees_no_more_than_a_key_may_have(
    home: Home, settings: Settings, keys: Keys, published: Publish, double: EngineDouble
) -> None:
    """`--concurrent 1`: one at the engine, four waiting, the sixth 429; another key comes in."""
    published("support")
    settings = replace(settings, max_running=8, request_timeout_s=20)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        limited, free = keys("limited", concurrent=1), keys("free")
        for name in ("base", "support"):  # loaded before, so that nobody waits for that
            body = {**BODY, "model": name}
            await gateway.http.post("/v1/chat/completions", json=body, headers=limited)
        double.asked.clear()
        double.hold.clear()

        async def ask(headers: dict[str, str], model: str) -> httpx.Response:
            body = {**BODY, "model": model}
            return await gateway.http.post("/v1/chat/completions", json=body, headers=headers)

        models = ["base", "support", "base", "support", "base", "support", "base"]
        asking = [asyncio.create_task(ask(limited, model)) for model in models]
        await until(lambda: sum(task.done() for task in asking) == 2)
        other = asyncio.create_task(ask(free, "support"))
        await until(lambda: len(double.asked) == 2)
        double.hold.set()
        answers = await asyncio.gather(*asking)
        assert (await other).status_code == 200
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 2
        for answer in refused:
            assert answer.json()["error"]["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
