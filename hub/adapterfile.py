"""Reading an adapter's folder as PEFT lays it out: its config, its tensors, and their pairs.

Every failure is an AdapterRejected with the name of the check that reading is part of; whether what
was read fits a base is `hub.inspect`'s business. Nothing here runs code out of a file: weights are
safetensors, never a pickle.
"""

import json
import math
import re
import stat
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from hub.errors import AdapterRejected

if TYPE_CHECKING:
    import numpy as np

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)

# A list of every module of a large model takes a tenth of a megabyte.
LONGEST_CONFIG = 16_000_000
_LONGEST_PATTERN = 20_000
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_EMBEDDING_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_embedding_(?P<half>[AB])")
_KINDS = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of an adapter: shape, dtype in safetensors' spelling, raw little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray


Pairs = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Adapter:
    """An adapter folder, read; `pairs` maps a module of the base to its (A, B)."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    pairs: Pairs

    @property
    def rank(self) -> int:
        return int(self.config["r"])

    @property
    def scale(self) -> float:
        """The factor of B A: alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        divisor = math.sqrt(self.rank) if self.config.get("use_rslora") else self.rank
        return float(self.config["lora_alpha"]) / divisor


def read_adapter(folder: Path) -> Adapter:
    """Read a folder whole. Raises AdapterRejected by files, config, readable or names."""
    check_files(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    return Adapter(folder, config, tensors, pair_up(tensors, folder / WEIGHTS))


def check_files(folder: Path) -> None:
    """files: an adapter's two files are there, as plain files, and no pickle stands in for one."""
    if not folder.is_dir():
        raise refuse("files", "not a folder", folder, "Name a folder with a PEFT adapter in it.")
    for pickle in _PICKLES:
        if (folder / pickle).exists() and not (folder / WEIGHTS).exists():
            raise refuse(
                "files",
                "the weights are a pickle, which can run code when it is loaded",
                folder / pickle,
                "Save them again with save_pretrained(safe_serialization=True).",
            )
    for name in FILES:
        path = folder / name
        if path.is_symlink():
            raise refuse("files", "a symbolic link", path, "Copy the file itself into the folder.")
        if not path.exists():
            raise refuse("files", f"{name} is missing", folder, "PEFT's save_pretrained makes it.")
        if not path.is_file():
            raise refuse("files", "not a plain file", path, "Copy the file itself into the folder.")


def read_config(folder: Path) -> dict[str, Any]:
    """config: the config is a JSON object with the settings that the checks read."""
    path = folder / CONFIG
    try:
        config = json.loads(config_text(folder))
    except (ValueError, OSError, RecursionError) as error:
        raise refuse("config", f"not readable as JSON ({error})", path) from error
    if not isinstance(config, dict):
        raise refuse("config", "not a JSON object", path)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise refuse("config", f"peft_type is {_brief(kind)}; only LORA can be served", path)
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise refuse("config", f"r is {_brief(rank)}, not a rank", path)
    alpha = config.get("lora_alpha")
    if not _is_scale(alpha):
        raise refuse("config", f"lora_alpha is {_brief(alpha)}, not a scale", path)
    targets = config.get("target_modules")
    listed = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    if not targets or not (listed or isinstance(targets, str)):
        raise refuse(
            "config",
            f"target_modules is {_brief(targets)}, not a list of modules or a pattern",
            path,
            "PEFT's save_pretrained writes it.",
        )
    for field, (fits, meaning) in _FIELDS.items():
        if field in config and not fits(config[field]):
            raise refuse("config", f"{field} is {_brief(config[field])}, not {meaning}", path)
    for field in ("target_modules", "exclude_modules"):
        _require_pattern(field, config.get(field), path)
    return config


def config_text(folder: Path) -> str:
    """The config as it stands there. A pipe or a device, which may never end, is not opened.

    Raises:
        OSError: when there is no plain file.
        ValueError: when it is far larger than any config, or not UTF-8.
    """
    path = folder / CONFIG
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError("not a plain file")
    if facts.st_size > LONGEST_CONFIG:
        raise ValueError(f"{facts.st_size} bytes are too many for a config")
    return path.read_text(encoding="utf-8")


def lora_settings(adapter: Adapter, modules: Container[str]) -> dict[str, Any]:
    """What `peft.LoraConfig` takes for an adapter, so that the tensors of its file act, all of them
    and no others; `modules` are the names of the model's modules.

    Of the file's config only numbers get through, and the base's name. PEFT would run its patterns
    as regular expressions, and import or call what other settings name.
    """
    # A module that the model calls by another name than the file (transformers renames some while
    # loading) is targeted by its last name; what that adds has no tensors, so its B stays zero.
    targets = {
        module if module in modules else module.rpartition(".")[2] for module in adapter.pairs
    }
    named = adapter.config.get("base_model_name_or_path")
    return {
        "r": adapter.rank,
        "lora_alpha": adapter.config["lora_alpha"],
        "lora_dropout": adapter.config.get("lora_dropout", 0.0),
        "use_rslora": bool(adapter.config.get("use_rslora")),
        "target_modules": sorted(targets),
        "base_model_name_or_path": named if isinstance(named, str) else None,
        "task_type": "CAUSAL_LM",
    }


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """readable: the weights are one whole safetensors file of floating-point tensors.

    Tensors come in the order of their names. It takes twice the file's size in memory.
    """
    path = folder / WEIGHTS
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise refuse("readable", f"not a whole safetensors file ({error})", path) from error
    except OSError as error:
        raise refuse("readable", f"can't be read ({error.strerror})", path) from error
    if not entries:
        raise refuse("readable", "no tensor in this file", path)
    tensors = {
        name: Tensor(name, str(fact["dtype"]), tuple(fact["shape"]), fact["data"])
        for name, fact in sorted(entries, key=lambda entry: str(entry[0]))
    }
    for tensor in tensors.values():
        if tensor.dtype != "BF16" and tensor.dtype not in _KINDS:
            raise refuse(
                "readable",
                f"the tensor {_brief(tensor.name)} is {tensor.dtype}, not floating point",
                path,
                "Save the adapter in float32, float16 or bfloat16.",
            )
    return tensors


def pair_up(tensors: Mapping[str, Tensor], where: Path) -> Pairs:
    """names: every tensor is the A or the B of some module, and both are there."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name) or _EMBEDDING_KEY.fullmatch(name)
        if match is None:
            raise refuse(
                "names",
                f"the tensor {_brief(name)} is not a LoRA weight"
                " (base_model.model.MODULE.lora_A.weight)",
                where,
                _why_not_lora(name),
            )
        halves.setdefault(match["module"], {})[match["half"]] = tensor
    for module, found in halves.items():
        if len(found) < 2:
            (half,) = found
            missing = found[half].name.replace(f"_{half}", f"_{'B' if half == 'A' else 'A'}")
            raise refuse(
                "names",
                f"{_brief(module)} has no lora_{'B' if half == 'A' else 'A'}:"
                f" the tensor {_brief(missing)} is missing",
                where,
                "The file is cut short, or was edited.",
            )
    return {module: (found["A"], found["B"]) for module, found in halves.items()}


def as_floats(tensor: Tensor) -> "np.ndarray[Any, Any]":
    """A tensor's values, flat; bfloat16, which NumPy lacks, is widened to float32 exactly."""
    import numpy as np  # here, because listing versions should not wait for it

    if tensor.dtype == "BF16":
        halves = np.frombuffer(tensor.data, dtype="<u2").astype("<u4")
        return (halves << 16).view("<f4")
    return np.frombuffer(tensor.data, dtype=_KINDS[tensor.dtype])


def refuse(check: str, message: str, where: Path, hint: str | None = None) -> AdapterRejected:
    return AdapterRejected(message, check=check, where=str(where), hint=hint)


def _is_scale(alpha: object) -> bool:
    """JSON as Python reads it holds NaN and Infinity, and integers too large for a float."""
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        return False
    try:
        return math.isfinite(alpha) and alpha != 0
    except OverflowError:
        return False


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_switch(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_indices(value: object) -> bool:
    listed = isinstance(value, list) and all(map(_is_index, value))
    return value is None or _is_index(value) or listed


def _are_names(value: object) -> bool:
    return value is None or isinstance(value, str) or _are_listed(value)


def _are_listed(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_mapping(value: object) -> bool:
    return value is None or isinstance(value, dict)


# Where a setting is there, what it has to be: by these PEFT chooses modules and their scale, and
# what else the checks read.
_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "exclude_modules": (_are_names, "a list of modules or a pattern"),
    "layers_to_transform": (_are_indices, "the number of a layer or a list of them"),
    "layers_pattern": (_are_names, "a name or a list of them"),
    "bias": (lambda value: isinstance(value, str), "'none', 'all' or 'lora_only'"),
    "init_lora_weights": (
        lambda value: _is_switch(value) or isinstance(value, str), "true, false or a name"),
    "lora_dropout": (_is_share, "a share from 0 to 1"),
    "use_rslora": (_is_switch, "true or false"),
    "rank_pattern": (_is_mapping, "an object"),
    "alpha_pattern": (_is_mapping, "an object"),
}  # fmt: skip


def _require_pattern(field: str, value: object, path: Path) -> None:
    """Where a setting is a pattern, it is one. It is compiled, which is quick, and never run."""
    if not isinstance(value, str):
        return
    try:
        if len(value) > _LONGEST_PATTERN:
            raise ValueError(f"{len(value)} characters are too many")
        re.compile(value)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise refuse(
            "config", f"{field} is {_brief(value)}, which is no pattern ({error})", path
        ) from error


def _brief(value: object) -> str:
    """For a message: names and values from a file may be long or hold control characters."""
    shown = ascii(value)
    return shown if len(shown) <= 160 else f"{shown[:157]}..."


def _why_not_lora(name: str) -> str:
    if ".default." in name:
        return "It was saved from a live PEFT model; save it with save_pretrained()."
    if "lora_magnitude_vector" in name:
        return "That is DoRA, which can't be served."
    if name.endswith(".base_layer.weight"):
        return (
            "It is a copy of the base's own weights, which the engine ignores; save the adapter "
            "with save_pretrained(save_embedding_layers=False)."
        )
    if ".modules_to_save." in name or name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return (
            "Whole layers can't be served beside the base; train it without modules_to_save and "
            "with the base's own vocabulary."
        )
    if ".token_adapter." in name:
        return "Trained token embeddings can't be served."
    if name.endswith(".bias"):
        return "Biases can't be served; train it with bias='none'."
    if not name.startswith(_PREFIX):
        return f"Its name should begin with '{_PREFIX}'."
    return "Only LoRA weights of the base's modules can be served."
