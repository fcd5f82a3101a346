"""What a gateway has given its engine, `hub gc` leaves alone until the engine has let go."""

import asyncio

import pytest

from hub.errors import UnknownReference
from hub.home import Home
from hub.leases import leased
from hub.local import LocalHub
from hub.records import Version
from hub.registry import Registry
from hub.store import Store
from serve.engines.base import EngineState
from serve.run import make_engines
from serve.settings import Settings
from tests.conftest import acts
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


def sweep(home: Home, keep_days: float = 0) -> list[str]:
    """`hub gc --keep-days N`; the versions that went."""
    with LocalHub.open(home, acts) as hub:
        return [entry.version for entry in hub.gc(keep_days=keep_days, dry_run=False).versions]


def promote(registry: Registry, version: Version) -> None:
    registry.aliases.move(version)


async def test_what_the_engine_has_outlives_gc(
    gateway: Gateway, published: Publish, registry: Registry, store: Store
) -> None:
    """Version 1 is in the engine, and production has moved on: gc takes it only after it left."""
    one, two, three = published("support"), published("support"), published("support")
    await gateway.chat("support@1")
    await gateway.chat("support@2")
    promote(registry, three)
    registry.reach.remove(two)
    assert sweep(gateway.home) == []
    store.verify(one)
    store.verify(two)
    assert (await gateway.chat("support@1")).status_code == 200
    assert (await gateway.chat("support@2")).status_code == 404
    for name in ("a", "b", "c"):  # three slots, and asked for more often: both are evicted
        published(name)
        for _ in range(3):
            assert (await gateway.chat(name)).status_code == 200
    assert sweep(gateway.home) == ["support@1"]
    assert not store.folder(one).exists()
    assert not store.folder(two).exists()
    assert (await gateway.chat("support@1")).status_code == 404


async def test_a_version_deleted_before_its_load_is_not_loaded(
    gateway: Gateway, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """Resolved, then removed by another process, then asked for: an error, and no lease stays."""
    published("support")
    version = published("support")
    registry.reach.remove(version)
    with pytest.raises(UnknownReference, match="support@2 was deleted"):
        await gateway.residency.acquire(version)
    assert double.loads == []
    assert leased(gateway.home) == set()


async def test_a_failed_load_leaves_no_lease(
    gateway: Gateway, published: Publish, store: Store, double: EngineDouble
) -> None:
    """Neither when the engine refuses, nor when the files are damaged."""
    version = published("support")
    double.load_refusal = "no"
    assert (await gateway.chat("support")).status_code == 502
    assert leased(gateway.home) == set()
    path = store.folder(version) / "adapter_config.json"
    path.parent.chmod(0o755)
    path.unlink()
    assert (await gateway.chat("support")).status_code == 500
    assert leased(gateway.home) == set()


async def test_an_engine_that_restarts_holds_nothing_of_its_old_life(
    gateway: Gateway, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """What it had is loaded again as far as it still exists, and the folder of nothing else is
    kept."""
    one, two = published("support"), published("support")
    promote(registry, two)
    await gateway.chat("support@1")
    await gateway.chat("support")
    registry.reach.remove(one)
    assert leased(gateway.home) == {one.digest, two.digest}
    engine = gateway.engine
    double.health = 503
    await until(lambda: engine.state is not EngineState.READY)
    double.restart()
    await until(lambda: engine.state is EngineState.READY)
    await gateway.chat("support")
    assert leased(gateway.home) == {two.digest}


async def test_a_gateway_that_ends_holds_nothing(
    home: Home, settings: Settings, published: Publish
) -> None:
    """Not even the folder of its leases."""
    version = published("support")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await gateway.chat("support")
        assert leased(home) == {version.digest}
    assert list(home.leases.iterdir()) == []


async def test_gc_under_traffic_breaks_no_request(
    gateway: Gateway, published: Publish, registry: Registry, home: Home
) -> None:
    """Promotions, removals, sweeps and evictions at once: whatever production is, answers."""
    for name in ("a", "b"):
        published(name)
    versions = [published("support"), published("support")]
    promote(registry, versions[1])

    async def ask(name: str) -> list[int]:
        return [(await gateway.chat(name)).status_code for _ in range(15)]

    async def churn() -> None:
        for _ in range(4):
            versions.append(published("support"))
            promote(registry, versions[-1])
            # Not the one before: a request may have resolved to it just now.
            registry.reach.remove(versions[-3])
            await asyncio.to_thread(sweep, home, keep_days=30)

    *answers, _ = await asyncio.gather(*(ask(name) for name in ("support", "a", "b")), churn())
    assert {status for statuses in answers for status in statuses} == {200}
