"""The publish gate's checks on files: only what serves is accepted.

Each check has a stable name and refuses with its own message, naming file and tensor. What vLLM
rejects is refused here with a better message; what it accepts silently and serves wrong (a wrong
key prefix, a rank unlike the tensors, a missing half of the modules, a NaN that harms every tenant)
is refused here because nobody else would. Whether the adapter changes the model's answers takes the
model itself: that is the effect check, and `hub.publish` asks for it.

No pattern from a file is ever run as a regular expression: some take years on one line. So where
modules are chosen by a pattern, `complete` can't tell what belongs there, and is skipped; the
effect is that of the tensors, as the engine takes them, whatever the pattern says.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hub.adapterfile import (
    CONFIG,
    WEIGHTS,
    Adapter,
    as_floats,
    check_files,
    pair_up,
    read_adapter,
    read_config,
    read_tensors,
    refuse,
)
from hub.errors import AdapterRejected, HubError
from hub.facts import CheckResult
from hub.records import Base

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
# vLLM's --max-lora-rank knows 1, 8, 16, 32, 64, 128, 256, 320 and 512.
RANK_CEILING = 512

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
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA (use_bdlora)",
    "megatron_config": "Megatron's parallel layers (megatron_config)",
    "arrow_config": "Arrow routing (arrow_config)",
    "kasa_config": "KaSA (kasa_config)",
    "monteclora_config": "MonteCLoRA (monteclora_config)",
}
# These give an ordinary LoRA. The others (pissa, olora, loftq, corda, …) change the base's own
# weights when PEFT loads the adapter, so the served base is not the trained one.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
# Unsloth mirrors models under its own name, also in 4 bits; an adapter of one is one of the model.
_MIRROR = "unsloth/"
_PLAIN_NAME = re.compile(r"\w+(\.\w+)*")
_QUANTISED = ("-unsloth-bnb-4bit", "-bnb-4bit")

Check = Callable[[Adapter, Base], None]


class Skip(Exception):
    """A check can't be run on this adapter; the message says why. Never leaves this module."""


def inspect_adapter(folder: Path, base: Base) -> Adapter:
    """Read a PEFT folder and run every check on it.

    Raises:
        AdapterRejected: by the first check that fails, `check` being its name.
    """
    adapter = read_adapter(folder)
    for check in CHECKS.values():
        try:
            check(adapter, base)
        except Skip:
            continue
    return adapter


def examine(folder: Path, base: Base) -> list[CheckResult]:
    """Run every check, also after one has failed, as far as what it needs could be read."""
    results: list[CheckResult] = []
    read: dict[str, Any] = {}

    def attempt(name: str, act: Callable[[], object], needs: Sequence[str] = ()) -> None:
        unread = [need for need in needs if need not in read]
        if unread:
            results.append(CheckResult(name, SKIPPED, f"{unread[0]} has failed"))
            return
        try:
            read[name] = act()
        except AdapterRejected as error:
            results.append(CheckResult(name, FAILED, told(error, folder)))
        except Skip as reason:
            results.append(CheckResult(name, SKIPPED, str(reason)))
        else:
            results.append(CheckResult(name, OK))

    attempt("files", lambda: check_files(folder))
    attempt("config", lambda: read_config(folder), _there(folder, CONFIG))
    attempt("readable", lambda: read_tensors(folder), _there(folder, WEIGHTS))
    attempt("names", lambda: pair_up(read["readable"], folder / WEIGHTS), ("readable",))
    adapter = Adapter(
        folder, read.get("config", {}), read.get("readable", {}), read.get("names", {})
    )
    for name, check in CHECKS.items():
        attempt(name, partial(check, adapter, base), _NEEDS[name])
    return results


def told(error: HubError, folder: Path) -> str:
    """An error's words, with files inside `folder` by their name."""
    place = error.where or ""
    inside = Path(place).is_relative_to(folder) and Path(place) != folder
    shown = f"{Path(place).name}: {error.message}" if inside else str(error)
    return f"{shown}. {error.hint}" if error.hint else shown


def _there(folder: Path, name: str) -> tuple[str, ...]:
    """What reading a file needs: nothing where it is, else the check that says that it is not."""
    path = folder / name
    return () if path.is_file() and not path.is_symlink() else ("files",)


# -- one check each -------------------------------------------------------------------------------


def check_base(adapter: Adapter, base: Base) -> None:
    """base: the config names this base, where it names one, and no other revision of it."""
    named = adapter.config.get("base_model_name_or_path")
    if named and not _is_base(str(named), base):
        raise refuse(
            "base",
            f"trained on {str(named)!r}, not on '{base.name}'",
            adapter.folder / CONFIG,
            f"Name its base with --base, or correct base_model_name_or_path if it is {base.name}.",
        )
    revision = adapter.config.get("revision")
    if revision and revision not in (base.identity.revision, "main"):
        raise refuse(
            "base",
            f"trained on revision {str(revision)!r} of '{base.name}',"
            f" not on '{base.identity.revision}'",
            adapter.folder / CONFIG,
            "Add that revision as a base of its own: `hub base add MODEL --revision REVISION`.",
        )


def _is_base(named: str, base: Base) -> bool:
    """The base by its name or place here, or as other machines call the same model: a folder of
    that name, the Hugging Face cache, Unsloth's mirror of it in 4 bits."""
    if named in (base.name, base.source):
        return True
    short = base.name.rpartition("/")[2]
    if named.startswith(("/", "./", "../", "~")) or re.match(r"[A-Za-z]:[/\\]", named):
        parts = re.split(r"[/\\]", named.rstrip("/\\"))
        cached = f"models--{base.name.replace('/', '--')}"
        if cached in parts:
            return parts[-1] in (base.identity.revision, cached) or "snapshots" not in parts
        return parts[-1] == short
    if named.startswith(_MIRROR):
        plain = named.removeprefix(_MIRROR)
        for ending in _QUANTISED:
            plain = plain.removesuffix(ending)
        return plain.casefold() == short.casefold()
    return False


def check_servable(adapter: Adapter, base: Base) -> None:
    """servable: nothing that the engine rejects, ignores or applies wrongly."""
    path = adapter.folder / CONFIG
    bias = adapter.config.get("bias", "none")
    if bias != "none":
        raise refuse("servable", f"bias is {bias!r}, which can't be served", path, _RETRAIN)
    for switch, meaning in _SWITCHES.items():
        if adapter.config.get(switch):
            raise refuse("servable", f"it uses {meaning}, which can't be served", path, _RETRAIN)
    init = adapter.config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        raise refuse(
            "servable",
            f"init_lora_weights={init!r} trained it on a changed base",
            path,
            "Convert it with PEFT's path_initial_model_for_weight_conversion, or retrain it.",
        )


def check_rank(adapter: Adapter, base: Base) -> None:
    """rank: within the ceiling, and the tensors have the rank that the config states."""
    if adapter.rank > RANK_CEILING:
        raise refuse(
            "rank",
            f"rank {adapter.rank} is over the ceiling of {RANK_CEILING}",
            adapter.folder / CONFIG,
            _RETRAIN,
        )
    for module, (a, b) in adapter.pairs.items():
        # An embedding's pair has the same axes: A [rank, vocabulary], B [dimension, rank].
        for tensor, axis in ((a, 0), (b, 1)):
            if len(tensor.shape) != 2 or tensor.shape[axis] != adapter.rank:
                raise refuse(
                    "rank",
                    f"the tensor '{tensor.name}' has shape {list(tensor.shape)},"
                    f" but the config says rank {adapter.rank} ('{module}')",
                    adapter.folder / WEIGHTS,
                    "r in adapter_config.json was edited or belongs to other weights."
                    if len(tensor.shape) == 2 and 0 not in tensor.shape
                    else "Was it saved under DeepSpeed ZeRO-3 or FSDP, without its shards?",
                )


def check_modules(adapter: Adapter, base: Base) -> None:
    """modules: every pair belongs to a module of the base."""
    for module, (a, _) in adapter.pairs.items():
        if base_weight(base, module) is None:
            raise refuse(
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
        embedding = "lora_embedding" in a.name
        for tensor, axis, other in ((a, 1, 0 if embedding else 1), (b, 0, 1 if embedding else 0)):
            fits = len(tensor.shape) == len(shape) == 2 and tensor.shape[axis] == shape[other]
            if not fits:
                raise refuse(
                    "shapes",
                    f"the tensor '{tensor.name}' has shape {list(tensor.shape)}, but"
                    f" '{module}' of '{base.name}' is {list(shape)}",
                    adapter.folder / WEIGHTS,
                    "Was it trained on another model, or with a changed vocabulary?",
                )


def check_complete(adapter: Adapter, base: Base) -> None:
    """complete: every module that the config targets has its weights, and no other has.

    PEFT ignores a tensor of another module, and the engine, which goes by tensors, serves it.
    """
    targeted = _targets(adapter.config)
    for module, (a, _) in adapter.pairs.items():
        if not targeted(module):
            raise refuse(
                "complete",
                f"the tensor {a.name!a} belongs to a module that the config does not target",
                adapter.folder / WEIGHTS,
                "target_modules, exclude_modules or layers_to_transform was edited, or belongs to"
                " other weights.",
            )
    # Libraries differ in whether a mixture's experts are modules; none adapted is as it was meant.
    experts = any(".experts." in module for module in adapter.pairs)
    for weight, shape in base.shapes.items():
        module = weight.removesuffix(".weight")
        if len(shape) != 2 or module == weight or module in adapter.pairs:
            continue
        if ".experts." in module and not experts:
            continue
        if targeted(module):
            raise refuse(
                "complete",
                f"the config targets '{module}', but the tensor"
                f" 'base_model.model.{module}.lora_A.weight' is missing",
                adapter.folder / WEIGHTS,
                "The file is cut short, or target_modules was edited.",
            )


def _targets(config: Mapping[str, Any]) -> Callable[[str], bool]:
    """PEFT's choice of modules (its check_target_module_exists). Raises Skip for a pattern."""
    for field in ("target_modules", "exclude_modules"):
        if config.get(field) and isinstance(config[field], str):
            raise Skip(f"{field} is a pattern, so what should be there is not known")
    targets, excluded = config["target_modules"], config.get("exclude_modules") or []
    layers, before = config.get("layers_to_transform"), config.get("layers_pattern") or []
    chosen = [layers] if isinstance(layers, int) else layers
    names = [before] if isinstance(before, str) else before
    if chosen and any(_PLAIN_NAME.fullmatch(name) is None for name in names):
        raise Skip("layers_pattern is a pattern, so what should be there is not known")

    def targeted(module: str) -> bool:
        if _matches(module, excluded):
            return False
        if module in targets or not chosen:
            return _matches(module, targets)
        return _matches(module, targets) and _layer(module, names) in chosen

    return targeted


def _layer(module: str, names: Sequence[str]) -> int | None:
    """The number of a module's layer: the first in its name, or the first after one of `names`."""
    parts = module.split(".")
    # A tensor's name may hold a number of any length; no model has a million layers.
    numbered = [i for i in range(1, len(parts) - 1) if parts[i].isdecimal() and len(parts[i]) <= 6]
    if not names:
        return next((int(parts[i]) for i in numbered if i > 1), None)
    for name in names:
        for i in numbered:
            if _matches(".".join(parts[:i]), [name]):
                return int(parts[i])
    return None


def _matches(module: str, names: Sequence[str]) -> bool:
    """PEFT's rule for a list of names: the whole module, or the end of it at a dot."""
    return any(module == name or module.endswith(f".{name}") for name in names)


def check_finite(adapter: Adapter, base: Base) -> None:
    """finite: no NaN and no Inf; one of them on a shared engine harms every tenant.

    A float64 that float32 can't hold becomes Inf in the engine, so it counts as one.
    """
    import numpy as np

    for tensor in adapter.tensors.values():
        values = as_floats(tensor)
        wide = tensor.dtype == "F64" and bool((np.abs(values) > np.finfo(np.float32).max).any())
        if wide or not np.isfinite(values).all():
            raise refuse(
                "finite",
                f"the tensor '{tensor.name}' holds NaN or Inf",
                adapter.folder / WEIGHTS,
                "Training diverged: lower the learning rate and train again.",
            )


def check_nonzero(adapter: Adapter, base: Base) -> None:
    """nonzero: some module has both halves other than zero."""
    if any(as_floats(a).any() and as_floats(b).any() for a, b in adapter.pairs.values()):
        return
    a, b = next(iter(adapter.pairs.values()))
    zero = a if not as_floats(a).any() else b
    raise refuse(
        "nonzero",
        f"every A or every B is zero, so the adapter changes nothing (the tensor '{zero.name}')",
        adapter.folder / WEIGHTS,
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
# What must have been read for a check to say anything.
_NEEDS: dict[str, tuple[str, ...]] = {
    "base": ("config",),
    "servable": ("config",),
    "rank": ("config", "names"),
    "modules": ("names",),
    "shapes": ("names",),
    "complete": ("config", "names"),
    "finite": ("readable",),
    "nonzero": ("names",),
}


def base_weight(base: Base, module: str) -> tuple[int, ...] | None:
    """The shape of a module's weight in the base; a tied lm_head is its embedding."""
    shape = base.shapes.get(f"{module}.weight")
    if shape is None and module.endswith("lm_head"):
        return next((s for n, s in base.shapes.items() if n.endswith("embed_tokens.weight")), None)
    return shape


_RETRAIN = "Train it again with a preset of `hub train`: those serve by construction."
