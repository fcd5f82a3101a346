"""What every test may use: a fresh home, a base made from a config, adapters written by hand.

Real SQLite files and real safetensors throughout. The one test double of this project, at the
engine's HTTP line, is `tests/serve/engine_double.py`.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hub.home import Home
from hub.manifest import BaseIdentity
from hub.publish import Effect
from hub.records import Base
from hub.registry import Registry
from hub.store import Store

if "PYTEST_XDIST_WORKER" in os.environ:
    # Set before torch is imported. Each worker's threads would fight with the others' for the same
    # cores, and the models here are too small to gain by any.
    os.environ["OMP_NUM_THREADS"] = "1"

HIDDEN, INNER, VOCABULARY, RANK = 8, 16, 32, 4
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
}
LAYERS = 2
Adapter = Callable[..., Path]


def base_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        for module, shape in MODULES.items():
            shapes[f"model.layers.{layer}.{module}.weight"] = shape
    return shapes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Iterator[Registry]:
    home.root.mkdir(exist_ok=True)
    with Registry.create(home) as registry:
        yield registry


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture
def base(registry: Registry) -> Base:
    identity = BaseIdentity("tiny", "sha256:w", "c" * 64, "t" * 64, "")
    return registry.bases.add("/nowhere/tiny", identity, base_shapes())


def write_base(folder: Path) -> Path:
    """A folder that reads as the base above, though no model can be made of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    tensors = {name: np.ones(shape, np.float32) for name, shape in base_shapes().items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def adapter_tensors(seed: int = 0, rank: int = RANK) -> dict[str, np.ndarray]:
    """A good adapter of the base above, every target module of every layer."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for module, (outputs, inputs) in MODULES.items():
            key = f"base_model.model.model.layers.{layer}.{module}"
            a, b = random.normal(size=(rank, inputs)), random.normal(size=(outputs, rank))
            tensors[f"{key}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = b.astype(np.float32)
    return tensors


def adapter_config(rank: int = RANK, **changes: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "o_proj", "up_proj"],
        "bias": "none",
        **changes,
    }


def write_adapter(
    folder: Path, tensors: dict[str, np.ndarray] | None = None, config: dict[str, Any] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        adapter_tensors() if tensors is None else tensors, folder / "adapter_model.safetensors"
    )
    text = json.dumps(adapter_config() if config is None else config)
    (folder / "adapter_config.json").write_text(text)
    return folder


def acts(base_source: str, folder: Path) -> Effect:
    """The effect check for tests that are about something else."""
    return Effect(changes=True, largest=1.0, divergence=0.1)
