"""How much memory a training will take, before anything is loaded. All sizes are in bytes.

    weights      parameters x 4 on a CPU, x 2 in bfloat16; with nf4 the linear layers take 0.52
                 (half a byte and the constants, quantized too: 0.127 bits; Dettmers et al.,
                 "QLoRA", arXiv 2305.14314, section 3) and peft holds the rest in float32
    adapter      rank x (inputs + outputs) of each linear layer but the output layer, in float32
    gradients    4 for each parameter that is trained
    optimizer    8 for each: Adam's two moments, in float32 (Rajbhandari et al., "ZeRO",
                 arXiv 1910.02054, section 3.1)
    activations  what the backward pass needs of the forward pass, for the longest batch there can
                 be, `batch_size` rows of the longest row's tokens:
                   of each layer and token, with h the hidden size, q and k the widths of queries
                   and of keys, i the inner width and r the rank:
                     float32    4 x (4h + 2q + 2k + 4i + 7r)        full fine-tuning: 5i, no r
                     bfloat16   20h + 4q + 4k + 8i + 42r            norms are in float32
                   where activations are computed again (`train.trainers.training.recomputes`): one
                   h of each layer, and all of one layer; dpo and kto have twice the rows. The
                   allocator keeps more than is alive: on a CPU twice as much with an adapter and
                   1.3 times with full fine-tuning (measured), on a GPU 1.1 times (not measured)
    loss         8 tiles of 4,096 tokens by 32,768 of the vocabulary, or as many as there are, in
                 float32: TRL's loss goes through them, and never holds all logits
                 (`trl/kernels/chunked_logprob.py`)
    program      Python, torch and what it loads; on a GPU its workspaces

The form of the activations is Korthikanti et al., "Reducing Activation Recomputation in Large
Transformer Models", arXiv 2205.05198, section 4.1. Its numbers are for GPT's layers without LoRA
and with kept attention scores; those here were counted with torch's saved-tensor hooks on Llama's
layers of several widths, with peft's adapters and fused attention (agreement within 2% in float32,
4% in bfloat16; Qwen3, which also normalises queries and keys, keeps 11% more). docs/training.md has
the estimate beside what runs really took.

Absent on purpose: what several processes exchange, and models whose layers differ among each other.
"""

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from hub.errors import BaseError
from hub.records import Base
from train.config import Settings
from train.presets import CHECKPOINTING_PARAMETERS, PREFERENCES

_NF4 = 0.5 + 0.127 / 8
_MODULES = 7
_TILES, _TILE_TOKENS, _TILE_WORDS = 8, 4096, 32768
_KEPT_CPU, _KEPT_CPU_FULL, _KEPT_GPU = 2.0, 1.3, 1.1
# Resident before the first step on x86-64 Linux with torch's CPU build, measured.
_PROGRAM_CPU = 720_000_000
# Workspaces of cuBLAS and the allocator's rounding; the context itself is not free any more.
_PROGRAM_GPU = 500_000_000


@dataclass(frozen=True)
class Anatomy:
    """What the estimate needs of a base; `linear` are the weights that adapters stand on."""

    parameters: int
    linear: int
    adapted: int  # inputs + outputs of all those layers together: an adapter's size at rank 1
    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, base: Base) -> "Anatomy":
        """Of a registered base, from its recorded shapes and its folder's config.json.

        Raises:
            BaseError: when that can't be read, or does not say what is needed.
        """
        path = Path(base.source) / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            return cls._read(config.get("text_config") or config, base)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BaseError(
                f"the base's configuration does not say how large it is ({error!r})",
                where=str(path),
            ) from error

    @classmethod
    def _read(cls, text: dict[str, Any], base: Base) -> "Anatomy":
        linear = [shape for name, shape in base.shapes.items() if _is_adapted(name, shape)]
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        width = int(text.get("head_dim") or hidden // heads)
        inner = int(text.get("intermediate_size") or 4 * hidden)
        if experts := text.get("num_experts_per_tok"):
            inner = int(experts) * int(text.get("moe_intermediate_size") or inner)
        return cls(
            parameters=sum(prod(shape) for shape in base.shapes.values()),
            linear=sum(prod(shape) for shape in linear),
            adapted=sum(map(sum, linear)),
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            queries=heads * width,
            keys=int(text.get("num_key_value_heads") or heads) * width,
            inner=inner,
            vocabulary=int(text["vocab_size"]),
        )


def _is_adapted(name: str, shape: tuple[int, ...]) -> bool:
    outside = ("embed", "lm_head", "wte", "wpe", "visual", "vision")
    return len(shape) == 2 and not any(word in name for word in outside)


@dataclass(frozen=True)
class Memory:
    """The estimate, part by part, in bytes."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    program: int

    @property
    def total(self) -> int:
        return sum(self.to_json().values())

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def estimate(base: Anatomy, settings: Settings, *, longest: int, bf16: bool, gpu: bool) -> Memory:
    """Of a training by these settings whose longest row has `longest` tokens."""
    full = settings.method == "full"
    adapter = 0 if full else settings.rank * base.adapted
    trained = base.parameters if full else adapter
    wide = 2 if bf16 and not full else 4
    weights = base.parameters * wide
    if settings.quantize:
        weights = round((base.parameters - base.linear) * 4 + base.linear * _NF4)
    kept = _KEPT_GPU if gpu else _KEPT_CPU_FULL if full else _KEPT_CPU
    tokens = settings.batch_size * min(longest, settings.max_length)
    tokens *= 2 if settings.method in PREFERENCES else 1
    tile = min(tokens, _TILE_TOKENS) * min(base.vocabulary, _TILE_WORDS)
    return Memory(
        weights=weights,
        adapter=4 * adapter,
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=round(kept * tokens * _layers(base, settings, bf16)),
        loss=4 * _TILES * tile,
        program=_PROGRAM_GPU if gpu else _PROGRAM_CPU,
    )


def _layers(base: Anatomy, settings: Settings, bf16: bool) -> int:
    """Bytes that all layers keep of one token."""
    layer = _layer(base, settings, bf16)
    if base.parameters > CHECKPOINTING_PARAMETERS:
        return base.layers * base.hidden * (2 if bf16 else 4) + layer
    return base.layers * layer


def _layer(base: Anatomy, settings: Settings, bf16: bool) -> int:
    """Bytes that one layer keeps of one token."""
    full = settings.method == "full"
    rank = 0 if full else settings.rank
    if bf16:
        own = 20 * base.hidden + 4 * base.queries + 4 * base.keys
        return own + (10 if full else 8) * base.inner + 6 * _MODULES * rank
    own = 4 * base.hidden + 2 * base.queries + 2 * base.keys
    return 4 * (own + (5 if full else 4) * base.inner + _MODULES * rank)
