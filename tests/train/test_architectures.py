"""Adapters of the architectures that people use pass the publish gate, by tiny configs of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from hub.basefiles import read_base
from hub.inspect import inspect_adapter
from hub.records import Base
from train.reporting.effect import effect_of
from train.templates.tokens import ChatTokenizer

CONFIGS: dict[str, type[Any]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "gemma3": Gemma3TextConfig,
    "phi3": Phi3Config,
}
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "bos_token_id": None,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_every_linear_layer_is_found_in_the_base(
    name: str, model_folder: Path, tmp_path: Path
) -> None:
    """Names and shapes of an all-linear adapter agree with what the base's files say, untrained."""
    chat = ChatTokenizer.load(str(model_folder))
    torch.manual_seed(0)
    config = CONFIGS[name](
        vocab_size=len(chat.tokenizer), pad_token_id=chat.tokenizer.pad_token_id,
        eos_token_id=chat.tokenizer.eos_token_id, **SHAPE,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    identity, shapes = read_base(folder, name)
    base = Base(1, name, str(folder), identity, identity.digest(), shapes, "")
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    tuned = get_peft_model(model, lora)
    tuned.save_pretrained(tmp_path / "adapter")
    adapter = inspect_adapter(tmp_path / "adapter", base)
    assert len(adapter.pairs) >= 8
    assert effect_of(tuned, chat).changes
