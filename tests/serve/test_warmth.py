"""Pins, what is loaded ahead, and what an engine turns out to hold."""

from dataclasses import replace

import pytest

from hub.errors import Conflict, UnknownReference, UsageError
from hub.home import Home
from hub.leases import leased
from hub.records import Version
from hub.registry import Registry
from hub.store import Store
from serve.engines.base import EngineState
from serve.engines.spec import EngineSpec
from serve.placement.residency import Residency
from serve.placement.slots import SlotState
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


def loaded(residency: Residency) -> list[str]:
    return [r.version for r in residency.residents() if r.state is SlotState.LOADED]


def names(*versions: Version) -> set[str]:
    return {version.engine_name for version in versions}


async def restart(gateway: Gateway, double: EngineDouble) -> None:
    """The engine dies, and comes back with nothing."""
    engine, generation = gateway.engine, gateway.engine.generation
    double.health = 503
    await until(lambda: engine.state is not EngineState.READY)
    double.restart()
    await until(lambda: engine.generation > generation)


# -- pins ------------------------------------------------------------------------------------------


async def test_pins_are_loaded_at_start_and_follow_their_alias(
    home: Home, settings: Settings, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """`support` and `payments@1` are there before anybody asks. Production of both moves on: the
    name follows, the number stays, and the version before is kept no longer."""
    support, payments = published("support"), published("payments")
    pinned = replace(settings, pins=("support", "payments@1"))
    async with running(home, pinned, make_engines(home, pinned)) as gateway:
        await until(lambda: set(double.loaded) == names(support, payments))
        newer = [published("support"), published("payments")]
        for version in newer:
            registry.aliases.move(version)
        await until(lambda: newer[0].engine_name in double.loaded)
        kept = {r.version for r in gateway.residency.residents() if r.pinned}
        assert kept == {"support@2", "payments@1"}
        assert newer[1].engine_name not in double.loaded
        for name in ("a", "b"):
            published(name)
            assert (await gateway.chat(name)).status_code == 200
        assert support.engine_name not in double.loaded
        assert {newer[0].engine_name, payments.engine_name} <= set(double.loaded)


@pytest.mark.parametrize(
    ("pins", "error", "words"),
    [
        (("suport",), UnknownReference, "--pin suport: there is no adapter 'suport'"),
        (("support@9",), UnknownReference, "--pin support@9: .*support@9"),
        (("base",), UsageError, "'base' is the base"),
        (("support@1", "support@2", "support"), Conflict, "only 2 can be pinned"),
    ],
)
async def test_a_gateway_with_impossible_pins_does_not_start(
    home: Home,
    settings: Settings,
    published: Publish,
    double: EngineDouble,
    pins: tuple[str, ...],
    error: type[Exception],
    words: str,
) -> None:
    """It says which pin and why, before any engine is looked for."""
    published("support"), published("support")
    wrong = replace(settings, pins=pins)
    with pytest.raises(error, match=words):
        async with running(home, wrong, make_engines(home, wrong)):
            pass
    assert double.loads == []


async def test_a_pin_whose_version_is_deleted_holds_nothing(
    home: Home, settings: Settings, published: Publish, registry: Registry
) -> None:
    """It is shown with no version; its slot is free for others."""
    published("support")
    version = published("support")
    pinned = replace(settings, pins=("support@2",))
    async with running(home, pinned, make_engines(home, pinned)) as gateway:
        await until(lambda: loaded(gateway.residency) == ["support@2"])
        registry.reach.remove(version)
        await until(lambda: not any(r.pinned for r in gateway.residency.residents()))
        shown = (await gateway.http.get("/hub/residency")).json()
        assert shown["pins"] == [{"reference": "support@2", "version": None}]


async def test_pins_come_back_at_once_when_their_engine_does(
    home: Home, settings: Settings, published: Publish, double: EngineDouble
) -> None:
    """Without a request."""
    version = published("support")
    pinned = replace(settings, pins=("support",))
    async with running(home, pinned, make_engines(home, pinned)) as gateway:
        await until(lambda: set(double.loaded) == names(version))
        await restart(gateway, double)
        await until(lambda: set(double.loaded) == names(version))


async def test_pins_are_spread_and_go_to_another_engine_when_theirs_is_gone(
    home: Home, settings: Settings, published: Publish, double: EngineDouble
) -> None:
    """Two engines, two pins: one each; one engine dies, and the other has both."""
    one, two = published("one"), published("two")
    with EngineDouble() as other:
        both = replace(
            settings,
            engines_elsewhere=(EngineSpec(double.url), EngineSpec(other.url)),
            pins=("one", "two"),
        )
        async with running(home, both, make_engines(home, both)) as gateway:
            await until(lambda: len(double.loaded) + len(other.loaded) == 2)
            assert set(double.loaded) == names(one)
            assert set(other.loaded) == names(two)
            other.health = 503
            await until(lambda: set(double.loaded) == names(one, two))
            assert len(gateway.parts.fleet.members) == 2


# -- loaded ahead ----------------------------------------------------------------------------------


async def test_what_was_asked_most_is_loaded_at_the_next_start(
    home: Home, settings: Settings, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """Three slots, one stays free: the two that are asked most, as what they mean now; neither what
    has been deleted nor what was asked once."""
    for name in ("rare", "often", "deleted", "most"):
        published(name)
    gone = published("deleted")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        for name, times in (("rare", 1), ("deleted@2", 5), ("most", 4), ("often", 3), ("base", 6)):
            for _ in range(times):
                assert (await gateway.chat(name)).status_code == 200
    registry.reach.remove(gone)
    newer = published("most")
    registry.aliases.move(newer)
    double.restart()
    double.loads.clear()
    double.unloads.clear()
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await until(lambda: len(double.loaded) == 2)
        assert [name.partition("#")[0] for name in double.loads] == ["most@2", "often@1"]
        assert (await gateway.chat("rare")).status_code == 200
        assert double.unloads == []


async def test_what_an_engine_had_is_loaded_again_when_it_comes_back(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The last used first, as many as leave a slot free."""
    for name in ("one", "two", "three"):
        published(name)
        await gateway.chat(name)
    await gateway.chat("one")
    double.loads.clear()
    await restart(gateway, double)
    await until(lambda: len(double.loaded) == 2)
    assert [name.partition("#")[0] for name in double.loads] == ["one@1", "three@1"]


async def test_what_is_loaded_ahead_takes_nobodys_place(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Two of three slots are taken: nothing is unloaded, and the third stays free."""
    for name in ("one", "two"):
        published(name)
        await gateway.chat(name)
    assert not await gateway.residency.preload(published("three"))
    assert loaded(gateway.residency) == ["one@1", "two@1"]
    assert double.unloads == []


# -- what an engine turns out to hold --------------------------------------------------------------


async def test_a_gateway_takes_over_what_its_engine_has_loaded(
    home: Home, settings: Settings, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """Ours is used as it is, without a load, and its folder is leased again; what has been deleted
    goes; what others loaded stays, and counts."""
    one, two = published("one"), published("one")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await gateway.chat("one@1")
        await gateway.chat("one@2")
    registry.reach.remove(two)
    double.loaded["somebody-elses"] = "/elsewhere"
    double.loads.clear()
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await until(lambda: two.engine_name not in double.loaded)
        assert (await gateway.chat("one")).status_code == 200
        assert double.loads == []
        assert leased(home) == {one.digest}
        (engine,) = (await gateway.http.get("/hub/residency")).json()["engines"]
        assert engine["foreign"] == ["somebody-elses"]
        assert engine["cpu_slots"]["used"] == 2
        for name in ("a", "b", "c"):
            published(name)
            assert (await gateway.chat(name)).status_code == 200
            assert len(double.loaded) <= 3
    assert "somebody-elses" in double.loaded


async def test_what_the_engine_has_is_not_used_when_its_files_are_damaged(
    home: Home, settings: Settings, published: Publish, store: Store, double: EngineDouble
) -> None:
    """The engine would read them again some day: it is unloaded, and a request gets the error."""
    version = published("support")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await gateway.chat("support")
    path = store.folder(version) / "adapter_config.json"
    path.parent.chmod(0o755)
    path.unlink()
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await until(lambda: double.loaded == {})
        answer = await gateway.chat("support")
        assert answer.json()["error"]["code"] == "integrity_error"


async def test_an_engine_that_forgot_one_is_asked_what_else_it_forgot(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """It restarted too quickly to be noticed: after the first request that finds out, nothing is
    believed to be there that is not."""
    one, two = published("one"), published("two")
    for name in ("one", "two"):
        await gateway.chat(name)
    double.loaded.clear()
    assert (await gateway.chat("one")).status_code == 200
    await until(lambda: not gateway.residency.holds(two))
    assert gateway.residency.holds(one)
    assert (await gateway.chat("two")).status_code == 200
