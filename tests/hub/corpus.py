"""What is done to a good adapter to make a bad one, and what other trainers save: the corpus of
`test_gate.py`. Every entry works on a folder that `tests.conftest.write_adapter` has written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.conftest import (
    HIDDEN,
    LAYERS,
    MODULES,
    RANK,
    VOCABULARY,
    adapter_config,
    adapter_tensors,
    write_adapter,
)

Tensors = dict[str, np.ndarray]
Spoil = Callable[[Path], None]
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A0, B0 = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"
O0 = "base_model.model.model.layers.0.self_attn.o_proj"


def with_tensors(change: Callable[[Tensors], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = adapter_tensors()
        change(tensors)
        write_adapter(folder, tensors)

    return spoil


def with_config(**changes: object) -> Spoil:
    return lambda folder: rewrite(folder, adapter_config(**changes))


def rewrite(folder: Path, config: dict[str, object]) -> None:
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


def poison(value: float) -> Callable[[Tensors], object]:
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


def _embedding(vocabulary: int) -> Callable[[Tensors], object]:
    def add(tensors: Tensors) -> None:
        key = "base_model.model.model.embed_tokens.lora_embedding"
        tensors[f"{key}_A"] = np.ones((RANK, vocabulary), np.float32)
        tensors[f"{key}_B"] = np.ones((HIDDEN, RANK), np.float32)

    return add


def _own_head(tensors: Tensors) -> None:
    key = "base_model.model.lm_head"
    tensors[f"{key}.lora_A.weight"] = np.ones((RANK, HIDDEN), np.float32)
    tensors[f"{key}.lora_B.weight"] = np.ones((VOCABULARY, RANK), np.float32)


def _extra(key: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({key: np.ones((HIDDEN, RANK), np.float32)})


def add_norm(tensors: Tensors) -> None:
    tensors["base_model.model.model.norm.lora_A.weight"] = np.ones((RANK, HIDDEN), np.float32)
    tensors["base_model.model.model.norm.lora_B.weight"] = np.ones((HIDDEN, RANK), np.float32)


def _zero_a(tensors: Tensors) -> None:
    for key in tensors:
        if "lora_A" in key:
            tensors[key][:] = 0


def _wide(tensors: Tensors) -> None:
    key = f"{Q0}.lora_A.weight"
    tensors[key] = np.full_like(tensors[key], 1e300, dtype=np.float64)


def _config_link(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.rename(folder.parent / "config.json")
    path.symlink_to("../config.json")


def _pipe(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")


def _raw_config(text: str) -> Spoil:
    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_text(text)

    return write


# What is done to a good adapter; which check refuses it; the file and the tensor (or setting) that
# the message must name; and words that only this fault has.
CORRUPTIONS: dict[str, tuple[Spoil, str, str, str, str]] = {
    "wrong key prefix": (
        with_tensors(_prefix), "names", WEIGHTS,
        "'model.layers.0.mlp.up_proj.lora_A.weight'", "should begin with 'base_model.model.'"),
    "live model's keys": (
        with_tensors(_default), "names", WEIGHTS, "lora_A.default.weight",
        "from a live PEFT model"),
    "missing B": (
        with_tensors(lambda t: t.pop(B0)), "names", WEIGHTS, B0, "has no lora_B"),
    "missing A": (
        with_tensors(lambda t: t.pop(A0)), "names", WEIGHTS, A0, "has no lora_A"),
    "embeddings that change the vocabulary": (
        with_tensors(_vocabulary), "names", WEIGHTS, "model.embed_tokens.weight", "Whole layers"),
    "an adapted embedding of another vocabulary": (
        with_tensors(_embedding(VOCABULARY + 6)), "shapes", WEIGHTS,
        "model.embed_tokens.lora_embedding_A", "is [32, 8]"),
    "a copy of the base's embeddings": (
        with_tensors(_extra("base_model.model.model.embed_tokens.base_layer.weight")), "names",
        WEIGHTS, "embed_tokens.base_layer.weight", "save_embedding_layers=False"),
    "DoRA's magnitudes": (
        with_tensors(_extra(f"{Q0}.lora_magnitude_vector")), "names", WEIGHTS,
        f"{Q0}.lora_magnitude_vector", "That is DoRA"),
    "a bias beside B": (
        with_tensors(_extra(f"{Q0}.lora_B.bias")), "names", WEIGHTS, f"{Q0}.lora_B.bias", "Biases"),
    "trained tokens": (
        with_tensors(_extra("base_model.model.model.embed_tokens.token_adapter.delta")), "names",
        WEIGHTS, "token_adapter.delta", "Trained token embeddings"),
    "unknown module": (
        with_tensors(_misspell), "modules", WEIGHTS, "self_attn.query.lora_A.weight",
        "'tiny' does not have"),
    "A cut short": (
        with_tensors(_shorten_a), "shapes", WEIGHTS, A0, "has shape [4, 7]"),
    "half of the modules": (
        with_tensors(_half), "complete", WEIGHTS, f"{O0}.lora_A.weight", "the config targets"),
    "modules that the config does not target": (
        with_config(target_modules=["o_proj", "up_proj"]), "complete", WEIGHTS, A0,
        "does not target"),
    "modules that the config leaves out": (
        with_config(exclude_modules=["layers.0.self_attn.q_proj"]), "complete", WEIGHTS, A0,
        "does not target"),
    "layers that the config does not choose": (
        with_config(layers_to_transform=[1]), "complete", WEIGHTS, "layers.0.", "does not target"),
    "layers of another name": (
        with_config(layers_to_transform=[0, 1], layers_pattern="blocks"), "complete", WEIGHTS,
        "layers.0.", "does not target"),
    "a layer that the config chooses and the file lacks": (
        lambda folder: _write(
            folder, lambda t: [t.pop(k) for k in list(t) if "layers.0.self_attn.q" in k],
            layers_to_transform=[0, 1]),
        "complete", WEIGHTS, A0, "the config targets"),
    "NaN": (with_tensors(poison(float("nan"))), "finite", WEIGHTS, A0, "NaN or Inf"),
    "Inf": (with_tensors(poison(float("inf"))), "finite", WEIGHTS, A0, "NaN or Inf"),
    "more than float32 holds": (with_tensors(_wide), "finite", WEIGHTS, A0, "NaN or Inf"),
    "zero B": (with_tensors(_zero_b), "nonzero", WEIGHTS, "lora_B.weight'", "changes nothing"),
    "zero A": (with_tensors(_zero_a), "nonzero", WEIGHTS, "lora_A.weight'", "changes nothing"),
    "whole numbers": (
        with_tensors(lambda t: t.update({A0: np.ones((RANK, HIDDEN), np.int32)})), "readable",
        WEIGHTS, A0, "is I32, not floating point"),
    "no tensors": (with_tensors(lambda t: t.clear()), "readable", WEIGHTS, "", "no tensor"),
    "rank unlike the tensors": (
        with_config(rank=2), "rank", WEIGHTS, "lora_A.weight", "says rank 2"),
    "shards that were not gathered": (
        with_tensors(lambda t: t.update({A0: np.ones(0, np.float32)})), "rank", WEIGHTS, A0,
        "ZeRO-3"),
    "rank over the ceiling": (with_config(rank=1024), "rank", CONFIG, "1024", "over the ceiling"),
    "DoRA": (with_config(use_dora=True), "servable", CONFIG, "", "it uses DoRA"),
    "QALoRA": (with_config(use_qalora=True), "servable", CONFIG, "", "it uses QALoRA"),
    "modules_to_save": (
        with_config(modules_to_save=["lm_head"]), "servable", CONFIG, "modules_to_save",
        "saved whole"),
    "bias": (with_config(bias="all"), "servable", CONFIG, "bias", "bias is 'all'"),
    "ranks by module": (
        with_config(rank_pattern={"q_proj": 2}), "servable", CONFIG, "rank_pattern",
        "ranks that differ"),
    "a changed base": (
        with_config(init_lora_weights="pissa_niter_4"), "servable", CONFIG, "pissa_niter_4",
        "on a changed base"),
    "an initialisation of the future": (
        with_config(init_lora_weights="sorcery"), "servable", CONFIG, "sorcery",
        "on a changed base"),
    **{
        f"{field} that is {value!r}": (
            with_config(**{field: value}), "config", CONFIG, field, f"{field} is {value!r}, ")
        for field, value in (
            ("exclude_modules", 5), ("bias", None), ("init_lora_weights", 5),
            ("init_lora_weights", {"a": 1}), ("lora_dropout", "abc"), ("lora_dropout", 2),
            ("layers_to_transform", "x"), ("layers_to_transform", [True]), ("layers_pattern", 5),
            ("target_modules", "("), ("exclude_modules", "*"), ("rank_pattern", []),
            ("use_rslora", "no"),
        )
    },
    "Megatron's layers": (
        with_config(megatron_config={"a": 1}), "servable", CONFIG, "megatron_config", "Megatron"),
    "a config of 17 MB": (
        _raw_config(" " * 17_000_000), "config", CONFIG, "", "too many for a config"),
    "a pipe": (_pipe, "files", CONFIG, "", "not a plain file"),
    "IA3": (with_config(peft_type="IA3"), "config", CONFIG, "peft_type", "only LORA"),
    "no rank": (with_config(r="four"), "config", CONFIG, "r is 'four'", "not a rank"),
    "a scale that is no number": (
        _raw_config('{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}'), "config", CONFIG,
        "lora_alpha", "lora_alpha is nan"),
    "a scale beyond all numbers": (
        _raw_config('{"peft_type": "LORA", "r": 4, "lora_alpha": 1' + "0" * 400 + "}"), "config",
        CONFIG, "lora_alpha", "not a scale"),
    "no targets": (
        with_config(target_modules=None), "config", CONFIG, "target_modules",
        "target_modules is None"),
    "wrong base": (
        with_config(base_model_name_or_path="Qwen/Qwen3-8B"), "base", CONFIG, "Qwen/Qwen3-8B",
        "not on 'tiny'"),
    "a base in another folder": (
        with_config(base_model_name_or_path="/data/models/other"), "base", CONFIG,
        "/data/models/other", "not on 'tiny'"),
    "wrong base revision": (
        with_config(revision="abc"), "base", CONFIG, "revision 'abc'", "trained on revision"),
    "truncated file": (_truncate, "readable", WEIGHTS, "", "not a whole safetensors file"),
    "pickle": (_pickle, "files", "adapter_model.bin", "", "a pickle, which can run code"),
    "symbolic link": (_symlink, "files", WEIGHTS, "", "a symbolic link"),
    "symbolic link out of the folder": (_config_link, "files", CONFIG, "", "a symbolic link"),
    "no config": (
        lambda f: (f / CONFIG).unlink(), "files", CONFIG, "", "adapter_config.json is missing"),
    "no weights": (
        lambda f: (f / WEIGHTS).unlink(), "files", WEIGHTS, "", f"{WEIGHTS} is missing"),
    "config that is no JSON": (_raw_config("{"), "config", CONFIG, "", "not readable as JSON"),
    "config of a million brackets": (
        _raw_config("[" * 1_000_000), "config", CONFIG, "", "not readable as JSON"),
    "config that is no object": (_raw_config("[]"), "config", CONFIG, "", "not a JSON object"),
}  # fmt: skip


def _beside(folder: Path) -> None:
    for name in ("training_args.bin", "tokenizer.json", "README.md", "adapter_model.bin"):
        (folder / name).write_bytes(b"anything")
    (folder / "checkpoint-10").mkdir()


def _with_metadata(folder: Path) -> None:
    save_file(adapter_tensors(), folder / WEIGHTS, metadata={"format": "pt", "total": "12"})


def write_bfloat16(
    folder: Path, change: Callable[[Tensors], object] = lambda tensors: None
) -> None:
    """Written by hand, as the format says: NumPy has no such type, and the upper half of a float32
    is one."""
    tensors = adapter_tensors()
    change(tensors)
    header, body = {}, b""
    for name, value in tensors.items():
        data = (value.view("<u4") >> 16).astype("<u2").tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + body)


UNSLOTH = {
    "auto_mapping": {
        "base_model_class": "LlamaForCausalLM",
        "parent_library": "transformers.models.llama.modeling_llama",
        "unsloth_fixed": True,
    },
    "base_model_name_or_path": "unsloth/tiny-unsloth-bnb-4bit",
    "target_modules": r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|o_proj|up_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|o_proj|up_proj)))",
}
PEFT_0_21 = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None,
    "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
    "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "kasa_config": None, "layer_replication": None,
    "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_bias": False,
    "megatron_core": "megatron.core", "modules_to_save": None, "peft_version": "0.21.2",
    "qalora_group_size": 16, "rank_pattern": {}, "revision": None, "target_parameters": None,
    "task_type": "CAUSAL_LM", "trainable_token_indices": None, "use_bdlora": None,
    "use_dora": False, "use_qalora": False, "use_rslora": False,
}  # fmt: skip
ALL_LINEAR = [f"model.layers.{layer}.{module}" for layer in range(LAYERS) for module in MODULES]

GOOD: dict[str, Spoil] = {
    "as PEFT 0.21 writes it": with_config(**PEFT_0_21),
    "as PEFT 0.4 wrote it": with_config(
        fan_in_fan_out=False, inference_mode=True, init_lora_weights=True, layers_pattern=None,
        layers_to_transform=None, modules_to_save=None, revision=None, task_type="CAUSAL_LM",
    ),
    "Unsloth's, on a 4-bit mirror": with_config(**UNSLOTH),
    "on a mirror": with_config(base_model_name_or_path="unsloth/Tiny"),
    "LLaMA-Factory's, from a folder": with_config(
        **PEFT_0_21 | {"modules_to_save": []}, base_model_name_or_path="/mnt/models/tiny/"),
    "Axolotl's, from the Hub's cache": with_config(
        base_model_name_or_path="/home/ann/.cache/huggingface/hub/models--tiny/snapshots/sha256:w"),
    "from a folder of Windows": with_config(base_model_name_or_path="C:\\models\\tiny"),
    "without a base's name": with_config(base_model_name_or_path=None),
    "of the revision main": with_config(revision="main"),
    "all-linear, which PEFT saves as a list": with_config(target_modules=ALL_LINEAR),
    "targets that this base lacks": with_config(
        target_modules=["q_proj", "o_proj", "up_proj", "c_attn"]),
    "some layers only": lambda folder: _write(
        folder, lambda t: [t.pop(k) for k in list(t) if "layers.0" in k], layers_to_transform=[1]),
    "some modules left out": lambda folder: _write(
        folder, lambda t: [t.pop(k) for k in list(t) if "layers.0.self_attn.o_proj" in k],
        exclude_modules=["layers.0.self_attn.o_proj"]),
    "some layers by the name of their list": lambda folder: _write(
        folder, lambda t: [t.pop(k) for k in list(t) if "layers.0" in k], layers_to_transform=1,
        layers_pattern=["blocks", "layers"]),
    "rsLoRA": with_config(use_rslora=True),
    "a plain initialisation": with_config(init_lora_weights="gaussian"),
    "a fractional alpha": with_config(lora_alpha=0.5),
    "an adapted embedding": lambda folder: _write(
        folder, _embedding(VOCABULARY),
        target_modules=["q_proj", "o_proj", "up_proj", "embed_tokens"]),
    "an adapted, tied head": lambda folder: _write(
        folder, _own_head, target_modules=["q_proj", "o_proj", "up_proj", "lm_head"]),
    "metadata in the file": _with_metadata,
    "bfloat16": write_bfloat16,
    "float64": with_tensors(lambda t: t.update({k: v.astype(np.float64) for k, v in t.items()})),
    "other files beside it": _beside,
    "some zero modules": with_tensors(lambda t: t[B0].fill(0)),
}  # fmt: skip


def _write(folder: Path, change: Callable[[Tensors], object], **config: object) -> None:
    with_tensors(change)(folder)
    rewrite(folder, adapter_config(**config))
