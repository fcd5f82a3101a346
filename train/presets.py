"""Settings that work, by the kind of task and the size of the base.

    preset     for                                              rank  alpha  epochs  batch
    style      a tone or a form of answer, up to some 200 rows    16     32       3      8
    task       a defined task: labels, extraction, a procedure    16     32       3     16
    knowledge  many rows about a subject                          32     32       2     16
    tiny       bases under 10 M parameters, such as the starter   16     32       6     16

`auto` is `tiny` below 10 M parameters; otherwise `style` below 200 rows, `knowledge` from 5,000 on,
and `task` between. All target every linear layer (but not the output layer), which is what vLLM
serves; ranks are among those that its `--max-lora-rank` knows.

Sources. All linear layers, ten times full fine-tuning's learning rate, effective batch under 32:
"LoRA Without Regret" (Thinking Machines, 2025). The learning rate by model size is Tinker's rule
(tinker-cookbook, `hyperparam_utils.get_lr`): 5e-5 * 10 * (2000 / hidden)^p with p = 0.781 for
Llama and 0.0775 for Qwen, which gives 2.9e-4 for Llama-3.1-8B, 4.7e-4 for Qwen3-8B and 5.3e-4 for
Qwen2.5-0.5B; other families get Qwen's nearly flat exponent. Ranks of 16 to 32, 1 to 3 epochs:
practice of 2025-26; variants of LoRA land within 1-2% of it (arXiv 2602.04998), so the
learning rate is what to sweep. `tiny` was measured on the starter: 5e-3, alpha twice the rank.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from hub.errors import BaseError
from hub.records import Base

PresetName = Literal["auto", "style", "task", "knowledge", "tiny"]

TINY_PARAMETERS = 10_000_000
_STYLE_ROWS = 200
_KNOWLEDGE_ROWS = 5_000
_LORA_RATE = 5e-5 * 10
_REFERENCE_HIDDEN = 2000
_LLAMA_EXPONENT = 0.781
_OTHER_EXPONENT = 0.0775
_DEFAULT_MAX_LENGTH = 2048


@dataclass(frozen=True)
class BaseFacts:
    """What the settings depend on in a base; `context` is the most tokens that it can read."""

    parameters: int
    hidden: int
    family: str
    context: int | None

    @classmethod
    def of(cls, base: Base) -> "BaseFacts":
        """Of a registered base, from its recorded shapes and its folder's config.json.

        Raises:
            BaseError: when that cannot be read, or does not say what is needed.
        """
        path = Path(base.source) / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            # Models that also see or hear keep the language model's part under this name.
            text = config.get("text_config") or config
            context = text.get("max_position_embeddings")
            return cls(
                parameters=sum(prod(shape) for shape in base.shapes.values()),
                hidden=int(text["hidden_size"]),
                family=str(config["model_type"]),
                context=None if context is None else int(context),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BaseError(
                f"the base '{base.name}' is not where it was, or its configuration is not usable",
                where=str(path),
                hint=f"Add it again: hub base add FOLDER --name {base.name}",
            ) from error

    def max_length(self) -> int:
        return min(self.context or _DEFAULT_MAX_LENGTH, _DEFAULT_MAX_LENGTH)


@dataclass(frozen=True)
class Preset:
    """`learning_rate` None means: by the base's size."""

    name: Literal["style", "task", "knowledge", "tiny"]
    rank: int
    alpha_over_rank: int
    epochs: int
    batch_size: int
    warmup_ratio: float
    learning_rate: float | None = None

    def rate(self, base: BaseFacts) -> float:
        return learning_rate(base) if self.learning_rate is None else self.learning_rate


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("style", 16, 2, 3, 8, 0.05),
        Preset("task", 16, 2, 3, 16, 0.05),
        Preset("knowledge", 32, 1, 2, 16, 0.03),
        Preset("tiny", 16, 2, 6, 16, 0.05, learning_rate=5e-3),
    )
}


def choose(name: PresetName, *, base: BaseFacts, rows: int) -> Preset:
    """The preset of that name; `auto` by the base's size and the number of rows."""
    if name != "auto":
        return PRESETS[name]
    if base.parameters < TINY_PARAMETERS:
        return PRESETS["tiny"]
    if rows < _STYLE_ROWS:
        return PRESETS["style"]
    return PRESETS["knowledge" if rows >= _KNOWLEDGE_ROWS else "task"]


def learning_rate(base: BaseFacts) -> float:
    """Tinker's rule for LoRA, to two significant digits."""
    exponent = _LLAMA_EXPONENT if "llama" in base.family.lower() else _OTHER_EXPONENT
    return float(f"{_LORA_RATE * (_REFERENCE_HIDDEN / base.hidden) ** exponent:.1e}")
