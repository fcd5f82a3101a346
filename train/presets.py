"""Settings that work, by the kind of task and the size of the base.

    preset     for                                              rank  alpha  epochs  batch
    style      a tone or a form of answer, up to some 200 rows    16     32       3      8
    task       a defined task: labels, extraction, a procedure    16     32       3     16
    knowledge  many rows about a subject                          32     32       2     16
    tiny       bases under 10 M parameters, such as the starter   16     32       6     16

`auto` is `tiny` below 10 M parameters; otherwise `style` below 200 rows, `knowledge` where a
million tokens or more are learned (without a count of tokens: from 5,000 rows on), and `task`
between. So many short labels are a task, however many rows they are. All target every linear layer
(but not the output layer), which is what vLLM serves; ranks are among those that its
`--max-lora-rank` knows.

By method: `full` has a tenth of LoRA's learning rate. `dpo` and `kto` have a rate, a number of
epochs and a beta of their own, because what they change is an adapter's taste and not its task.

Sources. All linear layers, ten times full fine-tuning's learning rate, effective batch under 32:
"LoRA Without Regret" (Thinking Machines, 2025). The learning rate by model size is Tinker's rule
(tinker-cookbook, `hyperparam_utils.get_lr`): 5e-5 * 10 * (2000 / hidden)^p with p = 0.781 for
Llama and 0.0775 for Qwen, which gives 2.9e-4 for Llama-3.1-8B, 4.7e-4 for Qwen3-8B and 5.3e-4 for
Qwen2.5-0.5B; other families get Qwen's nearly flat exponent. Ranks of 16 to 32, 1 to 3 epochs:
practice of 2025-26; variants of LoRA land within 1-2% of it (arXiv 2602.04998), so the
learning rate is what to sweep. The million tokens from which on the rank is doubled are a rule of
thumb of this project, not of a source. DPO and KTO: beta 0.1 as in the papers (arXiv 2305.18290,
2402.01306) and in TRL, 1e-5 and few epochs by practice with LoRA.
`tiny` was measured on the starter: 5e-3 for sft, 2e-4 for dpo and kto, alpha twice the rank.
"""

import json
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hub.errors import BaseError
from hub.records import Base

if TYPE_CHECKING:
    from train.config import Settings

PresetName = Literal["auto", "style", "task", "knowledge", "tiny"]
Method = Literal["sft", "dpo", "kto", "full"]
PREFERENCES: tuple[Method, ...] = ("dpo", "kto")
# Above this, computing activations again costs less than keeping them.
CHECKPOINTING_PARAMETERS = 300_000_000
BETA = 0.1

TINY_PARAMETERS = 10_000_000
_STYLE_ROWS = 200
_KNOWLEDGE_ROWS = 5_000
_KNOWLEDGE_TOKENS = 1_000_000
_FULL_SHARE = 0.1  # of LoRA's learning rate
_PREFERENCE_RATE = 1e-5
_PREFERENCE_EPOCHS = 2
_LORA_RATE = 5e-5 * 10
_REFERENCE_HIDDEN = 2000
_ORDER = ("learning_rate", "epochs", "batch_size", "rank", "alpha", "beta", "warmup_ratio")
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
    """`learning_rate` None means: by the base's size. The last two are for dpo and kto."""

    name: Literal["style", "task", "knowledge", "tiny"]
    rank: int
    alpha_over_rank: int
    epochs: int
    batch_size: int
    warmup_ratio: float
    learning_rate: float | None = None
    preference_rate: float = _PREFERENCE_RATE
    preference_epochs: int = _PREFERENCE_EPOCHS

    def rate(self, base: BaseFacts, method: Method = "sft") -> float:
        if method in PREFERENCES:
            return self.preference_rate
        lora = learning_rate(base) if self.learning_rate is None else self.learning_rate
        return float(f"{lora * _FULL_SHARE:.1e}") if method == "full" else lora

    def alpha(self, rank: int, *, rslora: bool = False) -> int:
        """For the same scale of the update with rsLoRA, alpha / sqrt(rank), as without it."""
        return max(1, round(self.alpha_over_rank * (sqrt(rank) if rslora else rank)))

    def rounds(self, method: Method = "sft") -> int:
        """Epochs."""
        return self.preference_epochs if method in PREFERENCES else self.epochs


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("style", 16, 2, 3, 8, 0.05),
        Preset("task", 16, 2, 3, 16, 0.05),
        Preset("knowledge", 32, 1, 2, 16, 0.03),
        Preset("tiny", 16, 2, 6, 16, 0.05, 5e-3, preference_rate=2e-4, preference_epochs=4),
    )
}


def choose(
    name: PresetName, *, base: BaseFacts, rows: int, learned: int | None = None
) -> tuple[Preset, str]:
    """The preset of that name, and why it is that one.

    `auto` goes by the base's size, the number of rows and the tokens that are learned, if counted.
    """
    if name != "auto":
        return PRESETS[name], "asked for"
    if base.parameters < TINY_PARAMETERS:
        millions = base.parameters / 1e6
        return PRESETS["tiny"], f"the base has {millions:.1f} M parameters, under 10 M"
    if rows < _STYLE_ROWS:
        return PRESETS["style"], f"{rows} rows, under {_STYLE_ROWS}"
    counted = f"{rows:,} rows" if learned is None else f"{learned:,} tokens to learn"
    if learned is None:
        many, limit = rows >= _KNOWLEDGE_ROWS, f"{_KNOWLEDGE_ROWS:,}"
    else:
        many, limit = learned >= _KNOWLEDGE_TOKENS, f"{_KNOWLEDGE_TOKENS:,}"
    if many:
        return PRESETS["knowledge"], f"{counted}, from {limit} on"
    return PRESETS["task"], f"{rows:,} rows, {counted}" if learned else counted


def explained(settings: "Settings") -> str:
    """What the preset set, and why it is that preset, in a line for people."""
    facts = vars(settings)
    numbers = {name: f"{facts[name]:g}" for name in sorted(settings.filled, key=_ORDER.index)}
    words = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())
    why = f"preset {settings.preset} ({settings.preset_reason})"
    return f"{why}: {words}" if words else why


def learning_rate(base: BaseFacts) -> float:
    """Tinker's rule for LoRA, to two significant digits."""
    exponent = _LLAMA_EXPONENT if "llama" in base.family.lower() else _OTHER_EXPONENT
    return float(f"{_LORA_RATE * (_REFERENCE_HIDDEN / base.hidden) ** exponent:.1e}")
