"""Load bases and adapters with transformers and peft: the one place that picks device and dtype.

Weights are float32 on a CPU and bfloat16 on a GPU that can; with `nf4` the base's linear layers are
4-bit (QLoRA) and computed in that dtype. Remote code is never run.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from hub.adapterfile import lora_settings, read_adapter
from hub.errors import BaseError, HubError, TrainingError
from train.runtime import quiet, ready


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype() -> torch.dtype:
    if device().type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def load_base(source: str, *, quantize: str | None = None, dtype: torch.dtype | None = None) -> Any:
    """The base as a transformers model on the device, ready to be wrapped; `dtype` is the weights'.

    Raises:
        BaseError: when it is not there or is not a causal language model.
    """
    dtype = dtype or compute_dtype()
    options: dict[str, Any] = {"dtype": dtype}
    if quantize == "nf4":
        options |= {"quantization_config": _nf4(dtype), "device_map": {"": str(device())}}
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    return model if quantize else model.to(device())


def load_tuned(source: str, adapter: Path, *, quantize: str | None = None) -> Any:
    """The base with an adapter from a PEFT folder, for inference.

    Raises:
        BaseError: when the base cannot be loaded.
        TrainingError: when the adapter cannot be.
    """
    ready(quantize=quantize is not None)  # before peft, which else compiles what is not needed
    return with_adapter(load_base(source, quantize=quantize), adapter)


def with_adapter(base: Any, adapter: Path) -> Any:
    """A loaded base with an adapter put into it; `unload()` of the result gives the base back.

    Raises:
        TrainingError: when the adapter can't be loaded; what is left of the base is not to be used.
    """
    return put_on(base, adapter).eval()


def put_on(
    base: Any, adapter: Path, *, trainable: bool = False, dropout: float | None = None
) -> Any:
    """A loaded base with every tensor of an adapter's file on it, whatever its config targets.

    `dropout` is what it is trained on with; None is what the file's config says.

    Raises:
        TrainingError: as `with_adapter` does.
    """
    from peft import LoraConfig, PeftModel

    try:
        with quiet():
            modules = dict(base.named_modules())
            given = lora_settings(read_adapter(adapter), modules)
            if dropout is not None:
                given["lora_dropout"] = dropout
            config = LoraConfig(**given)
            return PeftModel.from_pretrained(
                base, str(adapter), config=config, is_trainable=trainable
            )
    except Exception as error:
        # Another's code on a stranger's file: whatever that raises, it is the file that can't be
        # loaded, and whoever asked gets the reason in one line.
        told = error.message if isinstance(error, HubError) else str(error).strip()
        reason = told.splitlines()[0] if told else repr(error)
        raise TrainingError(f"the adapter can't be loaded: {reason}", where=str(adapter)) from error


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _unreadable(source: str, error: Exception) -> BaseError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BaseError(
        f"the base can't be loaded: {reason}",
        where=source,
        hint="`hub base ls` shows where each base is expected.",
    )
