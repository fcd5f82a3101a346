"""Publishing: what is accepted, what is refused by which check, and what stays behind."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.errors import AdapterRejected, IntegrityError
from hub.home import Home
from hub.manifest import sha256_of_file
from hub.publish import Effect, publish, servable_folder
from hub.records import Base
from hub.registry import Registry
from hub.store import Store
from tests.conftest import acts, adapter_config, adapter_tensors, write_adapter

Tensors = dict[str, np.ndarray]
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


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
    assert card.startswith('---\nbase_model: "tiny"\nlibrary_name: peft\n')
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


def _tensors(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = adapter_tensors()
        change(tensors)
        write_adapter(folder, tensors)

    return spoil


def _config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: _rewrite(folder, adapter_config(**changes))


def _rewrite(folder: Path, config: dict[str, object]) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def _symlink(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def _poison(value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[f"{Q0}.lora_A.weight"].__setitem__((0, 0), value)


def _half(tensors: Tensors) -> None:
    for key in [key for key in tensors if "o_proj" in key]:
        del tensors[key]


def _zero_b(tensors: Tensors) -> None:
    for key in tensors:
        if "lora_B" in key:
            tensors[key][:] = 0


def _prefix(tensors: Tensors) -> None:
    for key in list(tensors):
        tensors[key.replace("base_model.model.", "")] = tensors.pop(key)


def _misspell(tensors: Tensors) -> None:
    for key in list(tensors):
        tensors[key.replace("q_proj", "query")] = tensors.pop(key)


def _default(tensors: Tensors) -> None:
    for key in list(tensors):
        tensors[key.replace(".weight", ".default.weight")] = tensors.pop(key)


def _shorten_a(tensors: Tensors) -> None:
    tensors[f"{Q0}.lora_A.weight"] = tensors[f"{Q0}.lora_A.weight"][:, :-1].copy()


def _vocabulary(tensors: Tensors) -> None:
    tensors["base_model.model.model.embed_tokens.weight"] = np.ones((40, 8), np.float32)


CORRUPTIONS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "wrong key prefix": (_tensors(_prefix), "names", "not a LoRA weight"),
    "live model's keys": (_tensors(_default), "names", "lora_A.default"),
    "missing B": (_tensors(lambda t: t.pop(f"{Q0}.lora_B.weight")), "names", "has no lora_B"),
    "embeddings that change the vocabulary": (_tensors(_vocabulary), "names", "embed_tokens"),
    "unknown module": (_tensors(_misspell), "modules", "self_attn.query"),
    "A cut short": (_tensors(_shorten_a), "shapes", "q_proj.lora_A"),
    "half of the modules": (_tensors(_half), "complete", "o_proj"),
    "NaN": (_tensors(_poison(float("nan"))), "finite", "NaN or Inf"),
    "Inf": (_tensors(_poison(float("inf"))), "finite", "q_proj.lora_A"),
    "zero B": (_tensors(_zero_b), "nonzero", "changes nothing"),
    "rank unlike the tensors": (_config(rank=2), "rank", "says rank 2"),
    "rank over the ceiling": (_config(rank=1024), "rank", "over the ceiling"),
    "DoRA": (_config(use_dora=True), "servable", "DoRA"),
    "modules_to_save": (_config(modules_to_save=["lm_head"]), "servable", "modules_to_save"),
    "bias": (_config(bias="all"), "servable", "bias"),
    "ranks by module": (_config(rank_pattern={"q_proj": 2}), "servable", "rank_pattern"),
    "a changed base": (_config(init_lora_weights="pissa_niter_4"), "servable", "pissa"),
    "IA3": (_config(peft_type="IA3"), "config", "IA3"),
    "no rank": (_config(r="four"), "config", "not a rank"),
    "wrong base": (_config(base_model_name_or_path="Qwen/Qwen3-8B"), "base", "Qwen/Qwen3-8B"),
    "wrong base revision": (_config(revision="abc"), "base", "abc"),
    "truncated file": (_truncate, "readable", "not a whole safetensors file"),
    "pickle": (_pickle, "files", "pickle"),
    "symbolic link": (_symlink, "files", "symbolic link"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "files", "adapter_config.json"),
    "config that is no JSON": (
        lambda f: (f / "adapter_config.json").write_text("{"),  # type: ignore[dict-item,return-value]
        "config",
        "not readable as JSON",
    ),
}


@pytest.mark.parametrize("fault", CORRUPTIONS)
def test_what_would_not_serve_is_refused(
    registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path, fault: str
) -> None:
    """Each fault is refused by its own check, naming file and tensor, and leaves nothing behind."""
    spoil, check, words = CORRUPTIONS[fault]
    folder = write_adapter(tmp_path / "adapter")
    spoil(folder)
    with pytest.raises(AdapterRejected) as refused:
        publish(registry, store, "support", folder, base, measure_effect=acts, lineage={})
    assert refused.value.check == check
    assert words in str(refused.value)
    assert registry.summaries() == []
    assert [path for path in home.data.rglob("*") if path.is_file()] == []


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
    assert [path for path in home.data.rglob("*") if path.is_file()] == []


def test_bfloat16_and_float16_are_read(
    registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """A NaN is found in half precision too."""
    tensors = {key: value.astype(np.float16) for key, value in adapter_tensors().items()}
    version, _ = publish(
        registry, store, "half", write_adapter(tmp_path / "half", tensors), base,
        measure_effect=acts, lineage={},
    )  # fmt: skip
    assert version.rank == 4
    tensors[f"{Q0}.lora_B.weight"][0, 0] = np.nan
    with pytest.raises(AdapterRejected, match="NaN"):
        publish(
            registry, store, "half", write_adapter(tmp_path / "nan", tensors), base,
            measure_effect=acts, lineage={},
        )  # fmt: skip


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
