"""What peft itself saves is accepted where it serves, and refused where it would not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from hub.basefiles import read_base
from hub.errors import AdapterRejected
from hub.inspect import inspect_adapter
from hub.records import Base
from train.templates.tokens import ChatTokenizer

# peft warns of what these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "bos_token_id": None,
}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(
    request: pytest.FixtureRequest, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Base:
    chat = ChatTokenizer.load(str(model_folder))
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer), pad_token_id=chat.tokenizer.pad_token_id,
        eos_token_id=chat.tokenizer.eos_token_id, tie_word_embeddings=request.param, **SHAPE,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    identity, shapes = read_base(folder, "llama")
    return Base(1, "llama", str(folder), identity, identity.digest(), shapes, "")


def save(base: Base, folder: Path, *, vocabulary: int = 0, **settings: Any) -> Path:
    """An adapter with random weights, saved as a script that uses peft would."""
    only_lora = settings.pop("save_embedding_layers", "auto")
    model = AutoModelForCausalLM.from_pretrained(base.source)
    if vocabulary:
        model.resize_token_embeddings(model.config.vocab_size + vocabulary)
    settings = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **settings}
    tuned = get_peft_model(model, LoraConfig(r=4, **settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    tuned.save_pretrained(folder, save_embedding_layers=only_lora)
    return folder


GOOD: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*self_attn.*(q_proj|v_proj)"},
    "one layer": {"layers_to_transform": [1]},
    "modules left out": {"exclude_modules": ["model.layers.0.self_attn.v_proj"]},
    "rsLoRA": {"use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "the embedding": {
        "target_modules": ["q_proj", "embed_tokens"], "save_embedding_layers": False},
    "the head": {"target_modules": ["q_proj", "lm_head"], "save_embedding_layers": False},
}  # fmt: skip

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "DoRA": ({"use_dora": True}, "names", "lora_magnitude_vector"),
    "a bias": ({"lora_bias": True}, "names", "lora_B.bias"),
    "a whole head": ({"modules_to_save": ["lm_head"]}, "names", "lm_head.weight"),
    "trained tokens": ({"trainable_token_indices": [1]}, "names", "token_adapter"),
    "ranks by module": ({"rank_pattern": {"q_proj": 2}}, "servable", "rank_pattern"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "servable", "pissa"),
    "the head with a copy of the base's": (
        {"target_modules": ["lm_head"]}, "names", "base_layer.weight"),
    "a larger vocabulary": (
        {"target_modules": ["embed_tokens"], "save_embedding_layers": False, "vocabulary": 6},
        "shapes", "lora_embedding_A"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_what_serves_is_accepted(base: Base, tmp_path: Path, kind: str) -> None:
    """The files of peft's own save_pretrained, as they are."""
    assert inspect_adapter(save(base, tmp_path / "a", **GOOD[kind]), base).rank == 4


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_serve_is_refused(base: Base, tmp_path: Path, kind: str) -> None:
    """By the check that names it."""
    settings, check, words = BAD[kind]
    with pytest.raises(AdapterRejected, match=words) as refused:
        inspect_adapter(save(base, tmp_path / "a", **settings), base)
    assert refused.value.check == check
