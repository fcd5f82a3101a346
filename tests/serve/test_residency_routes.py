"""What `/hub/residency` and `hub residency` show and change."""

import asyncio
from dataclasses import replace

from hub.home import Home
from hub.registry import Registry
from serve.engines.spec import EngineSpec, Loading
from serve.run import make_engines
from serve.settings import Settings
from tests.command import Hub, Result
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


class Cli:
    """`hub residency …` as a process, asking the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._hub = Hub(gateway.home.root)
        self._url = gateway.url

    async def __call__(self, *arguments: str) -> Result:
        return await asyncio.to_thread(
            self._hub, "residency", *arguments, "--hub", self._url, timeout=60
        )


async def test_every_engine_is_shown_with_its_slots_and_who_is_in_them(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Over HTTP with a stream running, and as the command prints it after."""
    published("support"), published("payments")
    await gateway.chat("payments")
    double.hold.clear()
    stream = asyncio.create_task(gateway.stream("support"))
    await until(lambda: double.streaming)
    shown = (await gateway.http.get("/hub/residency")).json()
    double.hold.set()
    await stream
    (engine,) = shown["engines"]
    assert (engine["loading"], engine["state"], engine["generation"]) == ("explicit", "ready", 1)
    assert engine["url"] == double.url
    assert engine["gpu_slots"] == {"limit": 2, "used": 1, "waiting": 0}
    assert engine["cpu_slots"] == {"limit": 3, "used": 2, "waiting": 0}
    assert [(r["version"], r["state"], r["leases"], r["pinned"]) for r in engine["residents"]] == [
        ("payments@1", "loaded", 0, False),
        ("support@1", "loaded", 1, False),
    ]
    assert all(r["last_used"].endswith("Z") for r in engine["residents"])
    assert (shown["loads"], shown["evictions"], shown["pins"]) == (2, 0, [])
    text = (await Cli(gateway)()).stdout
    assert f"{engine['name']} at {double.url}: ready" in text
    assert "loaded   2 of 3" in text
    assert "support@1   loaded" in text
    again = (await Cli(gateway)("ls", "--json")).json()
    assert [r["version"] for r in again["engines"][0]["residents"]] == ["payments@1", "support@1"]


async def test_a_version_is_loaded_unloaded_pinned_and_unpinned(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """By the command: each says what happened and where, and the engine agrees."""
    version = published("support")
    cli, name = Cli(gateway), gateway.engine.name
    loaded = await cli("load", "support@1")
    assert loaded.stdout == f"support@1 is loaded in {name}\n"
    assert list(double.loaded) == [version.engine_name]
    pinned = await cli("pin", "support", "--json")
    assert pinned.json() == {"version": "support@1", "engines": [name]}
    refused = await cli("unload", "support")
    assert refused.status == 1
    assert "support@1 is pinned as support" in refused.stderr
    assert "hub residency unpin support" in refused.stderr
    assert "pinned: support -> support@1" in (await cli()).stdout
    wrong = await cli("unpin", "support@1")
    assert (wrong.status, wrong.stdout) == (1, "")
    assert "Pinned: support." in wrong.stderr
    assert (await cli("unpin", "support")).stdout == "support is no longer pinned\n"
    gone = await cli("unload", "support")
    assert gone.stdout == f"support@1 unloaded from {name}\n"
    assert double.loaded == {}
    assert (await cli("unload", "support")).stdout == "support@1 was not loaded\n"


async def test_what_names_nothing_is_refused(gateway: Gateway, published: Publish) -> None:
    """An unknown adapter, the base, what is no reference: the reason, and nothing changes."""
    published("support")
    for what in ("load", "unload", "pin"):
        for reference, status in (("suport", 404), ("base", 400), ("support@@", 400)):
            body = {"adapter": reference}
            answer = await gateway.http.post(f"/hub/residency/{what}", json=body)
            assert answer.status_code == status, (what, reference, answer.text)
    assert gateway.residency.residents() == []
    assert (await Cli(gateway)("pin", "suport")).status == 1


async def test_more_pins_than_fit_are_refused(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Three slots: two may be pinned, and what was refused is not pinned."""
    for name in ("a", "b", "c"):
        published(name)
    statuses = [
        (await gateway.http.post("/hub/residency/pin", json={"adapter": name})).status_code
        for name in ("a", "b", "c")
    ]
    assert statuses == [200, 200, 409]
    shown = (await gateway.http.get("/hub/residency")).json()
    assert [pin["reference"] for pin in shown["pins"]] == ["a", "b"]


async def test_a_pin_that_can_not_be_loaded_is_none(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The engine refuses: so does the pin, with its words."""
    published("support")
    double.load_refusal = "LoRA rank 128 is greater than max_lora_rank 64"
    answer = await gateway.http.post("/hub/residency/pin", json={"adapter": "support"})
    assert answer.status_code == 502
    assert "greater than max_lora_rank" in answer.json()["error"]["message"]
    assert (await gateway.http.get("/hub/residency")).json()["pins"] == []


async def test_a_pin_asked_for_again_stays_when_the_engine_is_down(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """That it can't be loaded just now takes away no pin that was there before."""
    published("support")
    body = {"adapter": "support"}
    assert (await gateway.http.post("/hub/residency/pin", json=body)).status_code == 200
    double.health = 503
    await gateway.engine.check()
    assert (await gateway.http.post("/hub/residency/pin", json=body)).status_code == 503
    shown = (await gateway.http.get("/hub/residency")).json()
    assert [pin["reference"] for pin in shown["pins"]] == ["support"]


async def test_a_deleted_version_is_unloaded_by_its_name(
    gateway: Gateway, published: Publish, registry: Registry, double: EngineDouble
) -> None:
    """It can't be resolved any more, but it is there."""
    published("support")
    version = published("support")
    await gateway.chat("support@2")
    registry.reach.remove(version)
    answer = await gateway.http.post("/hub/residency/unload", json={"adapter": "support@2"})
    assert answer.json()["engines"] == [gateway.engine.name]
    assert double.loaded == {}


async def test_an_engine_that_loads_lazily_is_shown_as_unknown(
    home: Home, settings: Settings, published: Publish, double: EngineDouble
) -> None:
    """No slots and no residents; and nobody can tell it what to hold."""
    published("support")
    lazy = replace(
        settings,
        engines_elsewhere=(EngineSpec(double.url, Loading.LAZY),),
        adapter_folder=str(home.root / "adapters"),
    )
    async with running(home, lazy, make_engines(home, lazy)) as gateway:
        (engine,) = (await gateway.http.get("/hub/residency")).json()["engines"]
        assert (engine["loading"], engine["gpu_slots"], engine["cpu_slots"]) == ("lazy", None, None)
        assert engine["residents"] == []
        assert "loads lazily" in (await Cli(gateway)()).stderr
        for what in ("load", "unload", "pin"):
            answer = await gateway.http.post(f"/hub/residency/{what}", json={"adapter": "support"})
            assert answer.status_code == 409
