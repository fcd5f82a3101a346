"""The LoRA adapter that is trained, put on its base: a new one, or a version's to continue from.

Every linear layer but the output layer is adapted, which is what engines serve. Its weights are
kept in float32 whatever the base is held in.
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import set_seed

from train.config import Settings
from train.trainers.loading import load_base, put_on
from train.trainers.training import recomputes


def lora_config(settings: Settings) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def prepared_base(settings: Settings, source: str) -> Any:
    """The base, ready to be wrapped; in 4 bits where the settings say so.

    Raises:
        BaseError: when it can't be loaded.
    """
    # Before the adapter is made: its A matrices are random.
    set_seed(settings.seed)
    model = load_base(source, quantize=settings.quantize)
    if settings.quantize:
        prepare: Any = prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=recomputes(model))
    return model


def lora_model(settings: Settings, source: str, parent: Path | None) -> Any:
    """Base and trainable adapter; raises as `prepared_base`, and TrainingError for the parent's."""
    model = prepared_base(settings, source)
    if parent is not None:
        return put_on(model, parent, trainable=True, dropout=settings.dropout)
    return get_peft_model(model, lora_config(settings))


def in_float32(trainer: Any) -> Any:
    """The trainer, with the adapter's weights in float32 again.

    TRL casts those on a 4-bit base to bfloat16, in which steps of Adam are rounded away.
    """
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return trainer
