"""Publishing: what a version is on disk, what stays behind when it is refused, what is caught."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from hub.errors import AdapterRejected, IntegrityError
from hub.home import Home
from hub.manifest import Manifest, describe, sha256_of_file
from hub.publish import Effect, publish, servable_folder
from hub.records import Base
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, adapter_tensors, write_adapter
from tests.hub.corpus import WEIGHTS
from tests.hub.test_gate import left_behind


def test_a_version_is_plain_peft_on_disk(
    registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """The materialised folder holds the published bytes, read-only, and a card with its header."""
    source = write_adapter(tmp_path / "adapter")
    version, created = publish(
        registry, store, "acme/support", source, base, measure_effect=acts, lineage={"seed": 1}
    )
    assert created
    folder = store.folder(version)
    assert folder.parts[-2:] == ("acme", "support@1")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
        assert (folder / name).stat().st_mode & 0o222 == 0
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nbase_model: "tiny"\nbase_model_relation: "adapter"\n')
    assert version.digest in card
    assert load_file(folder / "adapter_model.safetensors").keys() == adapter_tensors().keys()


def test_the_same_bytes_are_the_same_version(
    registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """Publishing again is idempotent and does not run the model again."""

    def fails(source: str, folder: Path) -> Effect:
        raise AssertionError("the effect of known bytes is known")

    source = write_adapter(tmp_path / "adapter")
    first, _ = publish(registry, store, "a", source, base, measure_effect=acts, lineage={})
    again, created = publish(registry, store, "a", source, base, measure_effect=fails, lineage={})
    assert (again, created) == (first, False)


@pytest.mark.parametrize("path", ["../../escape", "/tmp/escape", "a/b", "..", "C:escape", "a\0b"])
def test_a_manifest_can_not_name_a_file_outside(
    registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path, path: str
) -> None:
    """Whatever a row says, nothing is written but plain names in the version's own folder."""
    source = write_adapter(tmp_path / "adapter")
    entry = describe(source / WEIGHTS, path)
    with store.adding():
        store.blobs.put(source / WEIGHTS, entry)
    version, _ = registry.versions.add("a", Manifest(base.identity, (entry,)), rank=4, lineage={})
    before = sorted(home.root.rglob("*"))
    with pytest.raises(AdapterRejected) as refused:
        servable_folder(store, version)
    assert refused.value.check == "files"
    assert sorted(p for p in home.root.rglob("*") if p.name != "scratch") == [
        p for p in before if p.name != "scratch"
    ]
    assert not (tmp_path / "escape").exists()


def test_an_adapter_without_effect_is_refused(
    registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path
) -> None:
    """The model is asked last, and its word counts."""
    folder = write_adapter(tmp_path / "adapter")
    with pytest.raises(AdapterRejected) as refused:
        publish(
            registry, store, "support", folder, base,
            measure_effect=lambda *_: Effect(False, 1e-9, 0.0), lineage={},
        )  # fmt: skip
    assert refused.value.check == "effect"
    assert registry.summaries() == []
    assert left_behind(home) == []


def test_a_lost_folder_is_made_again_from_blobs(
    registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """A crash between the row and the folder loses nothing."""
    source = write_adapter(tmp_path / "adapter")
    version, _ = publish(registry, store, "a", source, base, measure_effect=acts, lineage={})
    folder = store.folder(version)
    folder.chmod(0o755)
    folder.rename(tmp_path / "gone")
    assert servable_folder(store, version) == folder
    digest = sha256_of_file(folder / "adapter_model.safetensors")
    assert digest == sha256_of_file(source / "adapter_model.safetensors")


def test_a_flipped_byte_is_caught_before_it_is_served(
    registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """Files are compared with their hashes whenever they are loaded."""
    source = write_adapter(tmp_path / "adapter")
    version, _ = publish(registry, store, "a", source, base, measure_effect=acts, lineage={})
    path = store.folder(version) / "adapter_model.safetensors"
    spoiled = bytearray(path.read_bytes())
    spoiled[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(spoiled)
    with pytest.raises(IntegrityError, match=r"not what was published as a@1"):
        servable_folder(store, version)


@pytest.mark.parametrize("make", [
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.write_text(" " * 17_000_000),
], ids=["pipe", "endless", "large"])  # fmt: skip
def test_what_is_no_config_is_not_read_for_its_base(
    base: Base, home: Home, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Without --base the config is asked which it is, before any check; it can't hold that up."""
    folder = write_adapter(tmp_path / "adapter")
    (folder / "adapter_config.json").unlink()
    make(folder / "adapter_config.json")
    refused = Hub(home.root)("publish", "support", folder, timeout=60)
    assert refused.status == 1
    assert "adapter_config.json" in refused.stderr


def test_no_file_and_no_reason_steers_a_terminal(
    registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path
) -> None:
    """What is printed of a tensor's name, or of why somebody moved an alias, is printable."""
    tensors = adapter_tensors()
    for half in "AB":
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"
        tensors[name.replace("q_proj", "\x1b[31m\x07")] = tensors.pop(name)
    hub = Hub(home.root)
    refused = hub("publish", "support", write_adapter(tmp_path / "bad", tensors))
    assert refused.status == 1
    assert "?[31m?" in refused.stderr
    source = write_adapter(tmp_path / "adapter")
    version, _ = publish(registry, store, "support", source, base, measure_effect=acts, lineage={})
    # Refused from the command line today; an older release kept it.
    registry.aliases.move(version, "candidate", action="set", why="\x1b[2Jnew\x9b1m")
    shown = hub.ok("history", "support").stdout
    assert "?[2Jnew?1m" in shown
    for text in (refused.stderr, shown):
        assert all(line.isprintable() for line in text.splitlines())
