"""Hubs to move adapters between, each with its own disk, and a Hugging Face Hub to move them by."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.home import Home
from hub.keys import SigningKey, read_public_keys
from hub.local import LocalHub
from hub.manifest import BaseIdentity
from hub.operations import Operations
from hub.registry import Registry
from hub.signing import sign_manifest
from hub.transfer import pull
from tests.conftest import acts, adapter_config, base_shapes, write_adapter
from tests.hub.hugging_face_double import TOKEN, HuggingFaceDouble, hugging_face

FILES = ("adapter_config.json", "adapter_model.safetensors")
IDENTITY = BaseIdentity("tiny", "sha256:w", "c" * 64, "t" * 64, "")
LINEAGE = {
    "kind": "trained", "seed": 7, "parent": "support@4", "parent_digest": "f" * 64,
    "metrics": {"validation_loss": 0.1234567890123},
}  # fmt: skip


@pytest.fixture
def make_hub(tmp_path: Path) -> Iterator[Callable[..., LocalHub]]:
    """Hubs by name, each with its own disk; their base is the same model, called as one says."""
    with ExitStack() as opened:

        def make(name: str, *, base: str | None = "tiny", **identity: str) -> LocalHub:
            home = Home(tmp_path / name)
            home.root.mkdir()
            with Registry.create(home) as registry:
                if base:
                    known = replace(IDENTITY, name=base, **identity)
                    registry.bases.add("/nowhere/tiny", known, base_shapes())
            return opened.enter_context(LocalHub.open(home, acts))

        yield make


@pytest.fixture
def here(make_hub: Callable[..., LocalHub], tmp_path: Path) -> LocalHub:
    """A hub with acme/support@1 in it, signed."""
    hub = make_hub("here")
    folder = write_adapter(tmp_path / "trained", config=adapter_config(peft_version="0.21.2"))
    hub.publish("acme/support", folder, lineage=LINEAGE)
    key = Ed25519PrivateKey.generate()
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    signing = SigningKey(read_public_keys(line)[0], key)
    hub.sign("acme/support", sign_manifest(hub.manifest("acme/support"), signing, signed_by="ann"))
    return hub


@pytest.fixture
def hub_of_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFaceDouble]:
    import huggingface_hub.constants

    with hugging_face() as double:
        # The client reads HF_ENDPOINT once, when it is imported.
        template = f"{double.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", double.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_ENDPOINT", double.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield double


@contextmanager
def no_hub(url: str | None) -> Iterator[Operations]:
    raise AssertionError("no hub is asked")
    yield


def take(hub: LocalHub, source: object, **more: Any) -> Any:
    return pull(hub, str(source), open_hub=no_hub, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
