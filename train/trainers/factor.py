"""A fully fine-tuned model as a LoRA adapter: the difference of each linear weight, factored.

For a linear layer with base weight W and tuned weight W + D, the best product B A of rank r is the
truncated singular value decomposition (Eckart and Young, 1936): with D = U S V', B = U_r sqrt(S_r)
and A = sqrt(S_r) V_r', and what is left over has |D - B A|_F = sqrt(sum of S_i^2 for i > r).
Relative errors are that over |D|_F; overall, both are taken over all layers as one long vector.

Full fine-tuning also moves what an adapter, as engines serve it, does not hold: embeddings, the
output layer, norms, biases. How much of the whole difference that is, is reported; what it matters
is measured, by the loss on validation rows of base, full model and adapter. An adapter that is no
better than the base is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from hub.errors import TrainingError
from train.config import Settings
from train.data.rows import Row
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer
from train.trainers.checkpoints import export_adapter
from train.trainers.loading import load_base, load_tuned
from train.trainers.losses import loss_on
from train.trainers.training import Explained, release

# An adapter that keeps less of what the full model gained is called poor.
POOR = 0.9


@dataclass(frozen=True)
class Factored:
    """`modules` maps each linear layer to its relative error, `not_held` each other weight that
    moved to its |difference|_F; `not_held_share` is theirs in the whole difference's square."""

    rank: int
    relative_error: float
    modules: dict[str, float]
    not_held: dict[str, float]
    not_held_share: float

    def to_json(self) -> dict[str, Any]:
        return {
            "rank": self.rank,
            "relative_error": self.relative_error,
            "modules": self.modules,
            "not_held": self.not_held,
            "not_held_share": self.not_held_share,
        }


def factor(settings: Settings, base_source: str, tuned: Path, out: Path) -> Factored:
    """Write the adapter of rank `settings.rank` to the folder `out`, in PEFT's layout.

    Raises:
        BaseError: when one of the models can't be loaded.
        TrainingError: when no linear layer differs, or the disk is full.
    """
    with quiet(), Explained(settings), torch.no_grad():
        changed = {
            name: parameter.detach()
            for name, parameter in load_base(str(tuned), dtype=torch.float32).named_parameters()
        }
        base = load_base(base_source, dtype=torch.float32)
        before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
        model = get_peft_model(base, _lora(settings.rank))
        errors, sizes = _fill(model, before, changed, settings.rank)
        linear = {f"{module}.weight" for module in sizes}
        others = {
            name: float((changed[name] - weight).norm())
            for name, weight in before.items()
            if name not in linear
        }
        total = sum(size**2 for size in sizes.values())
        if not total:
            raise TrainingError(
                "no linear layer was changed by the training, so there is nothing to factor",
                hint=f"Raise learning_rate (now {settings.learning_rate:g}) or epochs.",
            )
        scratch = out.with_name(f".{out.name}.factored")
        model.save_pretrained(str(scratch))
        export_adapter(scratch, out, base_name=settings.base)
        rmtree(scratch)
        del model, base
        release()
    outside = sum(size**2 for size in others.values())
    return Factored(
        rank=settings.rank,
        relative_error=math.sqrt(sum(error**2 for error in errors.values()) / total),
        modules={name: errors[name] / size for name, size in sizes.items() if size},
        not_held={name: size for name, size in others.items() if size},
        not_held_share=outside / (outside + total),
    )


def compare(
    settings: Settings,
    base_source: str,
    tuned: Path,
    adapter: Path,
    rows: Sequence[Row],
) -> dict[str, Any]:
    """Losses of base, full model and adapter on rows that were not trained on; {} without rows.

    `kept` is the share of what the full model gained that the adapter has: 1 is all of it.

    Raises:
        TrainingError: when the adapter is no better than the base.
    """
    if not rows:
        return {}
    chat = ChatTokenizer.load(base_source)
    full = loss_on(load_base(str(tuned)).eval(), chat, rows, cut=settings.cut)
    release()
    model = load_tuned(base_source, adapter)
    factored = loss_on(model, chat, rows, cut=settings.cut)
    with model.disable_adapter():
        base = loss_on(model, chat, rows, cut=settings.cut)
    losses = {"base": base, "full": full, "adapter": factored}
    if not factored < base:
        shown = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        raise TrainingError(
            f"factored to rank {settings.rank}, nothing of what was learned is left: loss {shown}",
            hint="Raise --rank, publish it --as base, or train an adapter with --method sft.",
        )
    return {"loss": losses, "kept": (base - factored) / (base - full) if base > full else None}


def told(facts: dict[str, Any]) -> list[str]:
    """What a person should know of a factoring, in lines; the first is the summary."""
    lines = [
        f"factored to rank {facts['rank']}: relative error {facts['relative_error']:.1%} of the"
        f" linear layers' difference; {facts['not_held_share']:.1%} of the whole (squared) is in"
        f" {len(facts['not_held'])} other weights, which an adapter does not hold"
    ]
    if losses := facts.get("loss"):
        kept = "" if facts["kept"] is None else f": {facts['kept']:.0%} of the gain is kept"
        lines.append(
            f"loss on validation rows: base {losses['base']:.3f}, full {losses['full']:.3f},"
            f" adapter {losses['adapter']:.3f}{kept}"
        )
        if facts["kept"] is not None and facts["kept"] < POOR:
            lines.append("A higher --rank may keep more; --as base keeps all of it.")
    return lines


def _lora(rank: int) -> LoraConfig:
    """Scale 1: the difference is held as it is."""
    return LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _fill(
    model: Any, before: dict[str, torch.Tensor], changed: dict[str, torch.Tensor], rank: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Put the factors into the adapter; |D - B A| and |D| of each layer (Frobenius norms)."""
    errors, sizes = {}, {}
    for path, layer in model.get_base_model().named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        difference = changed[f"{path}.weight"] - before[f"{path}.weight"]
        left, values, right = torch.linalg.svd(difference, full_matrices=False)
        kept = min(rank, len(values))
        root = values[:kept].sqrt()
        # A layer that is narrower than the rank fills the rest with nothing.
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        down.zero_()
        up.zero_()
        down[:kept] = root[:, None] * right[:kept]
        up[:, :kept] = left[:, :kept] * root
        errors[path] = float(values[kept:].norm()) if kept < len(values) else 0.0
        sizes[path] = float(values.norm())
    return errors, sizes
