"""The publish gate's checks on files: only what serves is accepted.

Each check has a stable name and refuses with its own message, naming file and tensor. What vLLM
rejects is refused here with a better message; what it accepts silently and serves wrong (a wrong
key prefix, a rank unlike the tensors, a missing half of the modules, a NaN that harms every tenant)
is refused here because nobody else would. Whether the adapter changes the model's answers takes the
model itself: that is the effect check, and `hub.publish` asks for it.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from hub.errors import AdapterRejected
from hub.records import Base

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
# vLLM's --max-lora-rank knows 1, 8, 16, 32, 64, 128, 256, 320 and 512.
RANK_CEILING = 512

_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_EMBEDDING_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_embedding_(?P<half>[AB])")
_SWITCHES = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA bias",
    "modules_to_save": "modules saved whole (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "target_parameters": "adapted parameters outside linear layers (target_parameters)",
    "rank_pattern": "ranks that differ by module (rank_pattern)",
    "alpha_pattern": "alphas that differ by module (alpha_pattern)",
    "layer_replication": "replicated layers (layer_replication)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
}
# These initialisations change the base's own weights, so the served base is not the trained one.
_BASE_CHANGING_INIT = ("pissa", "olora", "loftq", "corda")


@dataclass(frozen=True)
class Tensor:
    """One tensor of an adapter: shape, dtype in safetensors' spelling, raw little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Adapter:
    """An adapter folder, read; `pairs` maps a module of the base to its (A, B)."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    pairs: dict[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        return int(self.config["r"])


Check = Callable[[Adapter, Base], None]


def inspect_adapter(folder: Path, base: Base) -> Adapter:
    """Read a PEFT folder and run every check on it.

    Raises:
        AdapterRejected: by the first check that fails, `check` being its name.
    """
    check_files(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    adapter = Adapter(folder, config, tensors, pair_up(tensors))
    for check in CHECKS.values():
        check(adapter, base)
    return adapter


def check_files(folder: Path) -> None:
    """files: an adapter's two files are there, as plain files, and no pickle stands in for one."""
    if not folder.is_dir():
        raise _refuse("files", "not a folder", folder, "Name a folder with a PEFT adapter in it.")
    for pickle in ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth"):
        if (folder / pickle).exists() and not (folder / WEIGHTS).exists():
            raise _refuse(
                "files",
                "the weights are a pickle, which can run code when it is loaded",
                folder / pickle,
                "Save them again with save_pretrained(safe_serialization=True).",
            )
    for name in FILES:
        path = folder / name
        if path.is_symlink():
            raise _refuse("files", "a symbolic link", path, "Copy the file itself into the folder.")
        if not path.is_file():
            raise _refuse("files", f"{name} is missing", folder, "PEFT's save_pretrained makes it.")


def read_config(folder: Path) -> dict[str, Any]:
    """config: the config is a JSON object with the settings that the checks read."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _refuse("config", f"not readable as JSON ({error})", path) from error
    if not isinstance(config, dict):
        raise _refuse("config", "not a JSON object", path)
    if config.get("peft_type") != "LORA":
        raise _refuse(
            "config", f"peft_type is {config.get('peft_type')!r}; only LORA can be served", path
        )
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise _refuse("config", f"r is {rank!r}, not a rank", path)
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or alpha == 0:
        raise _refuse("config", f"lora_alpha is {alpha!r}, not a scale", path)
    return config


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """readable: the weights are one whole safetensors file. Tensors come in the order of names."""
    path = folder / WEIGHTS
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise _refuse("readable", f"not a whole safetensors file ({error})", path) from error
    if not entries:
        raise _refuse("readable", "no tensor in this file", path)
    return {
        name: Tensor(name, str(fact["dtype"]), tuple(fact["shape"]), bytes(fact["data"]))
        for name, fact in sorted(entries, key=lambda entry: str(entry[0]))
    }


def pair_up(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """names: every tensor is the A or the B of some module, and both are there."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name) or _EMBEDDING_KEY.fullmatch(name)
        if match is None:
            raise _refuse(
                "names",
                f"the tensor '{name}' is not a LoRA weight (base_model.model.MODULE.lora_A.weight)",
                Path(WEIGHTS),
                _why_not_lora(name),
            )
        halves.setdefault(match["module"], {})[match["half"]] = tensor
    for module, found in halves.items():
        if len(found) < 2:
            missing = "B" if "A" in found else "A"
            raise _refuse("names", f"'{module}' has no lora_{missing}", Path(WEIGHTS))
    return {module: (found["A"], found["B"]) for module, found in halves.items()}


def check_base(adapter: Adapter, base: Base) -> None:
    """base: the config names this base, where it names one that this hub could know."""
    named = adapter.config.get("base_model_name_or_path")
    if named and named not in (base.name, base.source):
        raise _refuse(
            "base",
            f"trained on '{named}', not on '{base.name}'",
            adapter.folder / CONFIG,
            f"Name its base with --base, or correct base_model_name_or_path if it is {base.name}.",
        )
    revision = adapter.config.get("revision")
    if revision and revision not in (base.identity.revision, "main"):
        raise _refuse(
            "base",
            f"trained on revision '{revision}', not on '{base.identity.revision}'",
            adapter.folder / CONFIG,
        )


def check_servable(adapter: Adapter, base: Base) -> None:
    """servable: nothing that the engine rejects, ignores or applies wrongly."""
    path = adapter.folder / CONFIG
    if adapter.config.get("bias", "none") != "none":
        raise _refuse("servable", f"bias is {adapter.config['bias']!r}", path, _RETRAIN)
    for switch, meaning in _SWITCHES.items():
        if adapter.config.get(switch):
            raise _refuse("servable", f"it uses {meaning}, which can't be served", path, _RETRAIN)
    init = adapter.config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INIT):
        raise _refuse(
            "servable",
            f"init_lora_weights={init!r} trained it on a changed base",
            path,
            "Convert it with PEFT's path_initial_model_for_weight_conversion, or retrain it.",
        )


def check_rank(adapter: Adapter, base: Base) -> None:
    """rank: within the ceiling, and the tensors have the rank that the config states."""
    if adapter.rank > RANK_CEILING:
        raise _refuse(
            "rank",
            f"rank {adapter.rank} is over the ceiling of {RANK_CEILING}",
            adapter.folder / CONFIG,
            _RETRAIN,
        )
    for module, (a, b) in adapter.pairs.items():
        # An embedding's pair has the same axes: A [rank, vocabulary], B [dimension, rank].
        for tensor, axis in ((a, 0), (b, 1)):
            if len(tensor.shape) != 2 or tensor.shape[axis] != adapter.rank:
                raise _refuse(
                    "rank",
                    f"the tensor '{tensor.name}' has shape {list(tensor.shape)},"
                    f" but the config says rank {adapter.rank} ('{module}')",
                    adapter.folder / WEIGHTS,
                )


def check_modules(adapter: Adapter, base: Base) -> None:
    """modules: every pair belongs to a module of the base."""
    for module, (a, _) in adapter.pairs.items():
        if base_weight(base, module) is None:
            raise _refuse(
                "modules",
                f"the tensor '{a.name}' belongs to '{module}', which '{base.name}' does not have",
                adapter.folder / WEIGHTS,
                "Was it trained on another model, or saved with another key prefix?",
            )


def check_shapes(adapter: Adapter, base: Base) -> None:
    """shapes: A takes the module's input and B gives its output."""
    for module, (a, b) in adapter.pairs.items():
        shape = base_weight(base, module)
        if shape is None:
            continue
        outputs, inputs = (shape[1], shape[0]) if "lora_embedding" in a.name else shape[:2]
        for tensor, axis, size in ((a, 1, inputs), (b, 0, outputs)):
            if tensor.shape[axis] != size:
                raise _refuse(
                    "shapes",
                    f"the tensor '{tensor.name}' has shape {list(tensor.shape)}, but"
                    f" '{module}' of '{base.name}' is {list(shape)}",
                    adapter.folder / WEIGHTS,
                    "Was it trained on another model, or with a changed vocabulary?",
                )


def check_complete(adapter: Adapter, base: Base) -> None:
    """complete: every module that the config targets has its weights."""
    targets = adapter.config.get("target_modules")
    if not isinstance(targets, list) or adapter.config.get("layers_to_transform") is not None:
        return
    excluded = adapter.config.get("exclude_modules") or []
    for weight, shape in base.shapes.items():
        module = weight.removesuffix(".weight")
        if len(shape) != 2 or module == weight or module in adapter.pairs:
            continue
        targeted = any(module == target or module.endswith(f".{target}") for target in targets)
        left_out = isinstance(excluded, str) or any(module.endswith(name) for name in excluded)
        if targeted and not left_out:
            raise _refuse(
                "complete",
                f"the config targets '{module}', but the file has no weights for it",
                adapter.folder / WEIGHTS,
                "The file is cut short, or target_modules was edited.",
            )


def check_finite(adapter: Adapter, base: Base) -> None:
    """finite: no NaN and no Inf; one of them on a shared engine harms every tenant."""
    for tensor in adapter.tensors.values():
        if not np.isfinite(as_floats(tensor, adapter.folder / WEIGHTS)).all():
            raise _refuse(
                "finite",
                f"the tensor '{tensor.name}' holds NaN or Inf",
                adapter.folder / WEIGHTS,
                "Training diverged: lower the learning rate and train again.",
            )


def check_nonzero(adapter: Adapter, base: Base) -> None:
    """nonzero: some module has both halves other than zero."""
    path = adapter.folder / WEIGHTS
    if not any(
        as_floats(a, path).any() and as_floats(b, path).any() for a, b in adapter.pairs.values()
    ):
        raise _refuse(
            "nonzero",
            "every A or every B is zero, so the adapter changes nothing",
            path,
            "Was it saved before it was trained?",
        )


CHECKS: dict[str, Check] = {
    "base": check_base,
    "servable": check_servable,
    "rank": check_rank,
    "modules": check_modules,
    "shapes": check_shapes,
    "complete": check_complete,
    "finite": check_finite,
    "nonzero": check_nonzero,
}


def base_weight(base: Base, module: str) -> tuple[int, ...] | None:
    """The shape of a module's weight in the base; a tied lm_head is its embedding."""
    shape = base.shapes.get(f"{module}.weight")
    if shape is None and module.endswith("lm_head"):
        return next((s for n, s in base.shapes.items() if n.endswith("embed_tokens.weight")), None)
    return shape


def as_floats(tensor: Tensor, where: Path) -> "np.ndarray[Any, Any]":
    """A tensor's values; bfloat16, which NumPy lacks, is widened to float32 exactly."""
    if tensor.dtype == "BF16":
        halves = np.frombuffer(tensor.data, dtype="<u2").astype("<u4")
        return (halves << 16).view("<f4")
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    if tensor.dtype not in kinds:
        raise _refuse(
            "readable", f"the tensor '{tensor.name}' is {tensor.dtype}, not floating point", where
        )
    return np.frombuffer(tensor.data, dtype=kinds[tensor.dtype])


_RETRAIN = "Train it again with a preset of `hub train`: those serve by construction."


def _why_not_lora(name: str) -> str:
    if ".default." in name:
        return "It was saved from a live PEFT model; save it with save_pretrained()."
    if "lora_magnitude_vector" in name:
        return "That is DoRA, which can't be served."
    if not name.startswith(_PREFIX):
        return f"Its name should begin with '{_PREFIX}'."
    return "Only LoRA weights of the base's modules can be served."


def _refuse(check: str, message: str, where: Path, hint: str | None = None) -> AdapterRejected:
    return AdapterRejected(message, check=check, where=str(where), hint=hint)
