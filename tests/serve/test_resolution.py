"""What `model` means, and what is said when it means nothing."""

import asyncio
import subprocess
import sys

import pytest

from hub.home import Home
from hub.records import Base
from hub.registry import Registry
from tests.conftest import base_shapes
from tests.serve.conftest import Gateway, Publish
from tests.serve.engine_double import EngineDouble


async def test_each_spelling_reaches_its_version(gateway: Gateway, published: Publish) -> None:
    """Name, number, alias and digest answer with the exact version; `base` with the base."""
    first, second = published("support"), published("support")
    spellings = {
        "support": first,
        "support@production": first,
        "support@2": second,
        f"support@sha256:{second.digest[:12]}": second,
    }
    for spelling, version in spellings.items():
        answer = await gateway.chat(spelling)
        assert answer.json()["model"] == str(version)
        assert answer.headers["x-hub-adapter"] == str(version)
        assert answer.headers["x-hub-digest"] == f"sha256:{version.digest}"
        assert version.engine_name in answer.json()["choices"][0]["message"]["content"]
    for spelling in ("base", "tiny"):
        answer = await gateway.chat(spelling)
        assert answer.json()["model"] == "tiny"
        assert answer.headers["x-hub-adapter"] == "base"


@pytest.mark.parametrize("name", ["nope", "Qwen/Qwen3-0.6B", "../../etc", "support@9"])
async def test_unknown_names_get_404_that_lists_what_exists(
    gateway: Gateway, published: Publish, double: EngineDouble, name: str
) -> None:
    """OpenAI's shape, the adapters and the base in the message, and the engine never asked."""
    published("support")
    answer = await gateway.chat(name)
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert error["code"] == "model_not_found"
    assert error["type"] == "invalid_request_error"
    assert "support" in error["message"]
    assert "tiny" in error["message"]
    assert double.asked == []
    assert double.loads == []


@pytest.mark.parametrize("name", ["auto", "support@1*0.7+support@1*0.3", "support@", "", "a@b@c"])
async def test_what_is_not_served_is_a_plain_400(
    gateway: Gateway, published: Publish, name: str
) -> None:
    """Compositions, `auto` and malformed references are refused with a sentence, not a failure."""
    published("support")
    answer = await gateway.chat(name)
    assert answer.status_code == 400 if name else 404
    assert answer.json()["error"]["message"]


async def test_an_adapter_of_another_base_says_so(
    gateway: Gateway, published: Publish, registry: Registry, base: Base
) -> None:
    """404 naming both bases and the command that serves the other."""
    identity = type(base.identity)("other", "sha256:x", "d" * 64, "t" * 64, "")
    published("foreign", registry.bases.add("/nowhere/other", identity, base_shapes()))
    answer = await gateway.chat("foreign")
    assert answer.status_code == 404
    assert "'other'" in answer.json()["error"]["message"]
    assert "'tiny'" in answer.json()["error"]["message"]


async def test_another_process_moves_an_alias_and_the_next_request_sees_it(
    gateway: Gateway, published: Publish, home: Home
) -> None:
    """Promotion by a process of its own, without a restart, and without a wait."""
    published("support"), published("support")
    assert (await gateway.chat("support")).json()["model"] == "support@1"
    promote = (
        "import sys; from pathlib import Path; from hub.home import Home\n"
        "from hub.registry import Registry\n"
        "with Registry.open(Home(Path(sys.argv[1]))) as registry:\n"
        "    registry.aliases.move(registry.versions.get('support', 2))\n"
    )
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", promote, str(home.root)], check=True
    )
    assert (await gateway.chat("support")).json()["model"] == "support@2"


async def test_models_lists_what_is_published_loaded_or_not(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The base, one entry an adapter, one a version; each can be asked for by its id."""
    published("support"), published("support"), published("acme/json")
    listed = (await gateway.http.get("/v1/models")).json()
    by_id = {model["id"]: model for model in listed["data"]}
    assert set(by_id) == {"tiny", "support", "support@1", "support@2", "acme/json", "acme/json@1"}
    assert by_id["support"]["root"] == "support@1"
    assert by_id["support"]["parent"] == "tiny"
    assert by_id["tiny"]["parent"] is None
    assert double.loads == []
    for name in by_id:
        one = await gateway.http.get(f"/v1/models/{name}")
        assert one.json() == by_id[name]
    assert (await gateway.http.get("/v1/models/nope")).status_code == 404
