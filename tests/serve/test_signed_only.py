"""`hub serve --signed-by`: what is not signed by a trusted key is not served."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.home import Home
from hub.keys import SigningKey, read_signing_key
from hub.records import Base, Version
from hub.registry import Registry
from hub.signing import sign_manifest
from serve.run import make_engines
from serve.settings import Settings
from tests.command import Hub
from tests.serve.conftest import Gateway, Publish, running
from tests.serve.engine_double import EngineDouble


@pytest.fixture
def keys(tmp_path: Path) -> tuple[SigningKey, SigningKey]:
    """A trusted key and a stranger's."""
    made = []
    for name in ("trusted", "stranger"):
        form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        (tmp_path / name).write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
        made.append(read_signing_key(tmp_path / name, lambda: ""))
        (tmp_path / f"{name}.pub").write_text(f"{made[-1].public.line}\n")
    return made[0], made[1]


@pytest.fixture
async def strict(
    home: Home, settings: Settings, keys: tuple[SigningKey, SigningKey]
) -> AsyncIterator[Gateway]:
    """A gateway that serves what the trusted key has signed."""
    told = dataclasses.replace(settings, signed_by=(keys[0].public,))
    async with running(home, told, make_engines(home, told)) as gateway:
        yield gateway


def sign(registry: Registry, version: Version, key: SigningKey) -> None:
    signature = sign_manifest(version.manifest.to_json(), key, signed_by="ann")
    registry.signatures.add(version, signature)


async def models(gateway: Gateway) -> list[str]:
    return [model["id"] for model in (await gateway.http.get("/v1/models")).json()["data"]]


async def test_an_unsigned_version_gets_403_and_never_reaches_the_engine(
    strict: Gateway, published: Publish, double: EngineDouble
) -> None:
    """By every spelling, streamed and compared too: `not_signed`, naming the version and what to
    run. The base stays served."""
    version = published("support")
    for spelling in ("support", "support@1", f"support@sha256:{version.digest[:12]}"):
        answer = await strict.chat(spelling)
        error = answer.json()["error"]
        assert answer.status_code == 403
        assert error["code"] == "not_signed"
        assert "support@1 is not signed by the trusted key" in error["message"]
        assert "hub sign support@1 --key" in error["message"]
    assert b"not_signed" in await strict.stream("support")
    pair = {"messages": [{"role": "user", "content": "Hi"}], "arms": ["base", "support"]}
    compared = await strict.http.post("/hub/comparisons", json=pair)
    assert compared.status_code == 403
    assert (await strict.http.get("/v1/models/support@1")).status_code == 403
    assert await models(strict) == ["tiny"]
    assert double.asked == []
    assert double.loads == []
    assert (await strict.chat("base")).status_code == 200


async def test_a_signature_added_meanwhile_counts_at_the_next_request(
    strict: Gateway, published: Publish, registry: Registry, keys: tuple[SigningKey, SigningKey]
) -> None:
    """Another connection signs it, and it is served and listed; a stranger's signature is none."""
    trusted, stranger = keys
    version = published("support")
    sign(registry, version, stranger)
    refused = (await strict.chat("support")).json()["error"]["message"]
    assert stranger.public.key_id in refused
    sign(registry, version, trusted)
    answer = await strict.chat("support")
    assert answer.status_code == 200
    assert answer.json()["model"] == "support@1"
    assert await models(strict) == ["tiny", "support", "support@1"]


async def test_a_promotion_of_an_unsigned_version_is_refused_at_the_next_request(
    strict: Gateway, published: Publish, registry: Registry, keys: tuple[SigningKey, SigningKey]
) -> None:
    """What was served stays asked for by number; the alias now names what nobody signed."""
    first, second = published("support"), published("support")
    sign(registry, first, keys[0])
    assert (await strict.chat("support")).status_code == 200
    registry.aliases.move(second)
    assert (await strict.chat("support")).json()["error"]["code"] == "not_signed"
    assert (await strict.chat("support@1")).status_code == 200
    assert await models(strict) == ["tiny", "support@1"]


async def test_a_signature_taken_from_another_version_is_none(
    strict: Gateway, published: Publish, registry: Registry, keys: tuple[SigningKey, SigningKey]
) -> None:
    """A row that somebody moved in the database file itself does not make its version served."""
    first, second = published("support"), published("support")
    sign(registry, first, keys[0])
    registry._db.execute("UPDATE signatures SET version_id = ?", [second.id])
    refused = await strict.chat("support@2")
    assert refused.status_code == 403
    assert "is not of this manifest" in refused.json()["error"]["message"]
    assert (await strict.chat("support@1")).status_code == 403


async def test_each_signature_is_computed_once(
    strict: Gateway,
    published: Publish,
    registry: Registry,
    keys: tuple[SigningKey, SigningKey],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often it is asked for and whatever else changes in the registry."""
    import serve.signed

    computed = []
    real = serve.signed.require_signature

    def counting(name: str, *rest: object) -> object:
        computed.append(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(serve.signed, "require_signature", counting)
    sign(registry, published("support"), keys[0])
    for _ in range(3):
        assert (await strict.chat("support")).status_code == 200
        await models(strict)
        registry.aliases.move(registry.versions.get("support", 1), "candidate")
    assert computed == ["support@1"]


def test_without_keys_nothing_is_asked_of_signatures(settings: Settings) -> None:
    """The default trusts the registry."""
    assert settings.signed_by == ()


def test_hub_serve_reads_the_keys_before_anything_starts(
    home: Home, base: Base, keys: tuple[SigningKey, SigningKey]
) -> None:
    """A private key or a file without a key ends it; good keys are named by their ids."""
    hub = Hub(home.root)
    trusted = home.root.parent / "trusted"
    private = hub("serve", "--signed-by", trusted)
    assert (private.status, "a public one is wanted" in private.stderr) == (2, True)
    assert hub("serve", "--signed-by", "/dev/null").status == 2
    nowhere = ("--engine", "http://127.0.0.1:9", "--startup-timeout", "0.1", "--port", "0")
    started = hub("serve", "--signed-by", f"{trusted}.pub", *nowhere)
    assert f"serving only what is signed by {keys[0].public.key_id}" in started.stderr
    assert started.status == 1
