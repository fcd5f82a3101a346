"""Loaded once, leased while used, bounded, and only what is whole."""

import asyncio

import pytest

from hub.errors import EngineRefused, IntegrityError
from hub.store import Store
from serve.placement.residency import Residency
from tests.serve.conftest import Gateway, Publish, until
from tests.serve.engine_double import EngineDouble


async def test_fifty_first_requests_make_one_load(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Simultaneous requests for one version: one load call, fifty answers."""
    published("support")
    double.load_delay = 0.2
    answers = await asyncio.gather(*(gateway.chat("support") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(double.loads) == 1


async def test_a_load_keeps_nobody_else_waiting(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """While one adapter loads for a long time, the base and a resident adapter answer."""
    published("support"), published("slow")
    await gateway.chat("support")
    double.load_delay = 30
    slow = asyncio.create_task(gateway.chat("slow"))
    async with asyncio.timeout(10):
        assert (await gateway.chat("support")).status_code == 200
        assert (await gateway.chat("base")).status_code == 200
    assert not slow.done()
    slow.cancel()


async def test_the_least_recently_used_goes_first_and_the_count_stays_below_the_limit(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """max_cpu_loras 4 holds 3: the fourth evicts the one that was used longest ago."""
    names = ["one", "two", "three", "four"]
    versions = {name: published(name) for name in names}
    for name in ("one", "two", "three", "one", "four"):
        assert (await gateway.chat(name)).status_code == 200
        assert len(double.loaded) <= 3
    assert double.unloads == [versions["two"].engine_name]
    shown = [resident.version for resident in gateway.residency.residents()]
    assert shown == ["four@1", "one@1", "three@1"]
    await gateway.chat("three")  # by name, whatever was used last
    assert [resident.version for resident in gateway.residency.residents()] == shown


async def test_a_lease_protects_from_eviction(
    gateway: Gateway, published: Publish, double: EngineDouble, store: Store
) -> None:
    """With every slot leased a further version waits, and comes in as soon as one is let go."""
    residency = Residency(gateway.engine, store.folder, max_cpu_loras=4)
    leases = [await residency.acquire(published(name)) for name in ("one", "two", "three")]
    fourth = asyncio.create_task(residency.acquire(published("four")))
    await asyncio.sleep(0.2)
    assert not fourth.done()
    assert double.unloads == []
    leases[1].release()
    leases[1].release()
    lease = await fourth
    assert double.unloads == [leases[1].engine_name]
    for held in (leases[0], leases[2], lease):
        held.release()


async def test_more_adapters_than_slots_at_once_are_all_answered(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Eight adapters through three slots, forty requests in flight, never over the limit."""
    names = [f"task-{number}" for number in range(8)]
    for name in names:
        published(name)
    double.token_delay = 0.005
    answers = await asyncio.gather(*(gateway.chat(names[i % 8]) for i in range(40)))
    for index, answer in enumerate(answers):
        assert answer.status_code == 200
        assert f"{names[index % 8]}@1#" in answer.text
    assert len(double.loaded) <= 3
    assert {resident.leases for resident in gateway.residency.residents()} == {0}


async def test_under_a_queue_what_is_asked_for_often_stays(
    gateway: Gateway, published: Publish, double: EngineDouble, store: Store
) -> None:
    """Nine slots, two run, and six more are asked for at once: four are loaded ahead into what is
    free, and the others wait rather than take the room of adapters that are idle but popular. When
    one has run, what goes for the next is the one that was asked for least."""
    residency = Residency(gateway.engine, store.folder, max_cpu_loras=10, max_loras=2)
    popular = [published(name) for name in ("p", "q", "r")]
    for version in popular * 3:
        (await residency.acquire(version)).release()
    first, second = [await residency.acquire(published(name)) for name in ("a", "b")]
    rare = [published(f"x{number}") for number in range(6)]
    asked = [asyncio.create_task(residency.acquire(version)) for version in rare]
    await until(lambda: len(double.loads) >= 9)
    await asyncio.sleep(0.1)
    assert (len(double.loads), double.unloads) == (9, [])
    first.release()
    lease = await asked[0]
    await until(lambda: len(double.loads) == 10)
    assert double.unloads == [first.engine_name]
    for held in (second, lease):
        held.release()
    for task in asked[1:]:
        (await task).release()
    assert not {version.engine_name for version in popular} & set(double.unloads)


async def test_damaged_files_never_reach_the_engine(
    gateway: Gateway, published: Publish, double: EngineDouble, store: Store
) -> None:
    """A version whose bytes changed on disk gets an error that names the file; others go on."""
    folder = store.folder(published("support"))
    published("other")
    weights = folder / "adapter_model.safetensors"
    folder.chmod(0o755)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    answer = await gateway.chat("support")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "integrity_error"
    assert "adapter_model.safetensors" in answer.json()["error"]["message"]
    assert double.loads == []
    assert (await gateway.chat("other")).status_code == 200


async def test_a_refused_load_says_the_engines_reason_and_is_tried_anew_next_time(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """502 with vLLM's words; nothing is remembered as loaded."""
    published("support")
    double.load_refusal = "LoRA rank 128 is greater than max_lora_rank 64"
    answer = await gateway.chat("support")
    assert answer.status_code == 502
    assert "greater than max_lora_rank" in answer.json()["error"]["message"]
    double.load_refusal = None
    assert (await gateway.chat("support")).status_code == 200


async def test_a_caller_that_gives_up_leaves_the_load_to_the_others(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Cancelling one of two waiters neither fails the other nor leaks a lease."""
    version = published("support")
    double.load_delay = 0.3
    residency: Residency = gateway.residency
    first = asyncio.create_task(residency.acquire(version))
    second = asyncio.create_task(residency.acquire(version))
    await asyncio.sleep(0.1)
    first.cancel()
    (await second).release()
    assert len(double.loads) == 1
    assert residency.residents()[0].leases == 0


@pytest.mark.parametrize("error", [IntegrityError("broken"), EngineRefused("no")])
async def test_all_who_wait_for_a_failed_load_get_its_error(
    gateway: Gateway, published: Publish, error: Exception
) -> None:
    """And the next request begins afresh."""
    version = published("support")

    def servable(_: object) -> None:
        raise error

    residency = Residency(gateway.engine, servable, max_cpu_loras=4)  # type: ignore[arg-type]
    results = await asyncio.gather(
        *(residency.acquire(version) for _ in range(3)), return_exceptions=True
    )
    assert results == [error] * 3
    assert residency.residents() == []
