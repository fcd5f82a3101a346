"""Base and adapter as one model folder, checked against the unmerged pair before it is kept.

The one module of `hub` that holds tensors. Weights are read and added in float32, whatever the base
is stored in: an adapter's update is small against the weight that it goes to, and what does not fit
into that weight's last bits is lost. So there is one rounding, at the end, to the dtype asked for.

Three things are compared in float32 at every position of the probe prompts and of the answers that
base + adapter give to them: the base, base + adapter, and the merged folder as transformers loads
it from disk. `largest` is the largest |difference in log-probability| (nats) between the last two,
among tokens that either gives 0.1% or more, or its highest probability; `effect` is the same
between the first two.

What is refused. The merge itself, still in float32, must agree to 1e-3: another order of summation
makes up to 7e-5, and a scaling, a module or a tied weight gone wrong makes as much as the adapter's
effect. What rounding adds is bounded twice. By dtype: the largest seen among the starter's trained
adapters and random models of 4 to 28 layers was 0.07 in float16 and 0.40 in bfloat16, whose last
bit is worth eight times as much; TOLERANCE is three to four times that. And by half of the effect,
beyond which the folder would be more noise than adapter.

Tied embeddings: an adapter of the embedding or of the output layer changes one use of a weight that
serves for both. The two are untied then, and the folder holds both.

Absent on purpose: GPUs (float32 on a CPU is the reference, and merging is done once), bases that
are stored quantised, and merging several adapters.
"""

import gc
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hub.adapterfile import lora_settings, read_adapter
from hub.errors import AdapterRejected, BaseError, Conflict, MergeError
from hub.facts import VersionFacts
from hub.mergedcard import render_merged_card
from hub.modelfolder import copy_companions, written_whole

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Nats; see above.
TOLERANCE = {"float32": 1e-3, "float16": 0.2, "bfloat16": 1.5}

_LEAST_PROBABILITY = 1e-3
_ANSWER_TOKENS = 24
_MOST_TOKENS = 512

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Merged:
    """What became of it. `size` is the weights' bytes; of `largest`, `allowed` was the most;
    `agreement` is the share of `positions` at which both give the same token the highest
    probability; `untied` says that the folder holds embedding and output layer apart, where the
    base has one weight for both."""

    version: str
    digest: str
    base: str
    folder: str
    dtype: str
    size: int
    largest: float
    allowed: float
    effect: float
    agreement: float
    positions: int
    untied: bool


@dataclass(frozen=True)
class _Probe:
    """Token ids of a prompt with its answer, (1, positions), and the log-probabilities that base
    and adapter give there, (positions, vocabulary)."""

    ids: torch.Tensor
    tuned: torch.Tensor


def merge(
    version: VersionFacts,
    adapter: Path,
    source: Path,
    out: Path,
    *,
    prompts: Sequence[str],
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    progress: Progress = lambda step: None,
) -> Merged:
    """Write the base in `source` with the adapter in `adapter` to the new folder `out`.

    The dtype is the base's own unless another is given. `prompts` are what users might say. Memory:
    four bytes a parameter, and a little more.

    Raises:
        BaseError: when the base can't be loaded, or is stored quantised.
        Conflict: when there is something at `out` already.
        MergeError: when the merged model is not the pair, or can't be written. Nothing is left.
    """
    if os.path.lexists(out):
        raise Conflict("it is there already", where=str(out), hint="Name a folder that is not.")
    wanted = _dtype(source, dtype)
    progress("loading base and adapter")
    model = _load_pair(source, adapter)
    progress("asking base + adapter")
    probes, effect = _probe(model, AutoTokenizer.from_pretrained(source), prompts)
    progress("merging")
    untied = _untie(model)
    merged = _merged(model)
    del model
    _require(_compare(merged, probes), effect, "float32")
    merged = merged.to(DTYPES[wanted])
    try:
        with written_whole(out) as scratch:
            progress(f"writing {wanted}")
            size = _save(merged, source, scratch, max_shard_size)
            del merged
            gc.collect()  # the second load needs the first one's memory
            progress("loading it again, to compare")
            found = _compare(_load_again(scratch, wanted), probes)
            report = Merged(
                version=version.version,
                digest=version.digest,
                base=version.base.name,
                folder=str(out),
                dtype=wanted,
                size=size,
                largest=found.largest,
                allowed=_require(found, effect, wanted),
                effect=effect,
                agreement=found.same / found.positions,
                positions=found.positions,
                untied=untied,
            )
            card = render_merged_card(version, report)
            (scratch / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise MergeError(f"it can't be written: {_first_line(error)}", where=str(out)) from error
    return report


# -- loading --------------------------------------------------------------------------------------


def _dtype(source: Path, asked: str | None) -> str:
    """The dtype asked for, or the base's own."""
    try:
        config: Any = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise BaseError(
            f"the base can't be read: {_first_line(error)}", where=str(source)
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise BaseError(
            "the base is stored quantised, and an update can't be added to such weights",
            where=str(source),
            hint="Add the model that it was made of as a base, and merge with that.",
        )
    name = asked or str(config.dtype or "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise BaseError(
            f"the base is stored as {name}, in which nothing is merged",
            where=str(source),
            hint=f"Choose one of {', '.join(DTYPES)} with --dtype.",
        )
    return name


def _load_pair(source: Path, adapter: Path) -> Any:
    try:
        base: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise BaseError(
            f"the base can't be loaded: {_first_line(error)}", where=str(source)
        ) from error
    try:
        modules = dict(base.named_modules())
        config = LoraConfig(**lora_settings(read_adapter(adapter), modules))
        return PeftModel.from_pretrained(base, str(adapter), config=config).eval()
    except (AdapterRejected, OSError, ValueError, RuntimeError, KeyError) as error:
        raise MergeError(
            f"the adapter can't be loaded: {_first_line(error)}", where=str(adapter)
        ) from error


def _load_again(folder: Path, dtype: str) -> Any:
    """As a user would, then in float32, so that weights are compared and not arithmetic."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    if model.dtype != DTYPES[dtype]:
        raise MergeError(f"the merged folder loads as {model.dtype}, not as {dtype}")
    return model.float().eval()


# -- merging --------------------------------------------------------------------------------------


def _untie(model: Any) -> bool:
    """Give the output layer a weight of its own where the adapter is on a shared one."""
    inner = model.get_base_model()
    ends = inner.get_input_embeddings(), inner.get_output_embeddings()
    if None in ends:
        return False
    plain = [end.get_base_layer() if hasattr(end, "get_base_layer") else end for end in ends]
    adapted = any(end is not bare for end, bare in zip(ends, plain, strict=True))
    if not adapted or plain[0].weight is not plain[1].weight:
        return False
    plain[1].weight = torch.nn.Parameter(plain[1].weight.detach().clone(), requires_grad=False)
    for config in (inner.config, inner.config.get_text_config()):
        config.tie_word_embeddings = False
    return True


def _merged(model: Any) -> Any:
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # peft, of weights that are not finite
        raise MergeError(f"the adapter can't be merged: {_first_line(error)}") from error


def _save(model: Any, source: Path, folder: Path, max_shard_size: str) -> int:
    """Weights, config, and what the base has beside them; returns the weights' bytes."""
    needed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MergeError(
            f"the merged model takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
        )
    try:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    except Exception as error:
        # safetensors has an error of its own for a disk that is full; whatever it was, the folder
        # is incomplete, and whoever asked wants to know why in one line.
        raise MergeError(f"it can't be written: {_first_line(error)}", where=str(folder)) from error
    copy_companions(source, folder)
    weights = list(folder.glob("*.safetensors"))
    for path in weights:
        # safetensors makes them private; whoever may read the config may read them.
        path.chmod((folder / "config.json").stat().st_mode)
    return sum(path.stat().st_size for path in weights)


# -- comparing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Comparison:
    largest: float
    same: int
    positions: int


def _probe(model: Any, tokenizer: Any, prompts: Sequence[str]) -> tuple[list[_Probe], float]:
    """What base + adapter say, and how far that is from what the base says."""
    probes, effect = [], 0.0
    for prompt in prompts:
        ids = _with_answer(model, _tokens(tokenizer, prompt))
        tuned = _log_probabilities(model, ids)
        with model.disable_adapter():
            base = _log_probabilities(model, ids)
        if not (torch.isfinite(tuned).all() and torch.isfinite(base).all()):
            raise MergeError("base and adapter give numbers that are not finite")
        effect = max(effect, _largest_change(tuned, base))
        probes.append(_Probe(ids, tuned))
    return probes, effect


def _compare(model: Any, probes: Sequence[_Probe]) -> _Comparison:
    largest, same, positions = 0.0, 0, 0
    for probe in probes:
        merged = _log_probabilities(model, probe.ids)
        if not torch.isfinite(merged).all():
            return _Comparison(float("inf"), 0, 1)
        largest = max(largest, _largest_change(probe.tuned, merged))
        same += int((probe.tuned.argmax(-1) == merged.argmax(-1)).sum())
        positions += merged.shape[0]
    return _Comparison(largest, same, positions)


def _require(found: _Comparison, effect: float, dtype: str) -> float:
    """How large a difference is allowed; raises MergeError when it is larger."""
    allowed = min(TOLERANCE[dtype], effect / 2)
    if found.largest > allowed:
        raise MergeError(
            f"merged in {dtype}, the log-probabilities are up to {found.largest:.2g} from those of"
            f" base + adapter; {allowed:.2g} is allowed (the adapter itself makes {effect:.2g})",
            hint=None if dtype == "float32" else "Rounding loses too much: use --dtype float32.",
        )
    return allowed


def _tokens(tokenizer: Any, prompt: str) -> torch.Tensor:
    """(1, tokens)."""
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        encoded = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    else:
        encoded = tokenizer(prompt, return_tensors="pt")
    ids: torch.Tensor = encoded["input_ids"][:, -_MOST_TOKENS:]
    return ids


@torch.no_grad()
def _with_answer(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The prompt with the likeliest answer, token by token, also past the end of a turn."""
    step, past = ids, None
    for _ in range(_ANSWER_TOKENS):
        output = model(input_ids=step, past_key_values=past, use_cache=True)
        past, step = output.past_key_values, output.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, step], dim=1)
    return ids


@torch.no_grad()
def _log_probabilities(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(positions, vocabulary), float32."""
    return torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)


def _largest_change(one: torch.Tensor, other: torch.Tensor) -> float:
    either = torch.maximum(one, other).exp()
    likely = either >= either.amax(-1, keepdim=True).clamp(max=_LEAST_PROBABILITY)
    return float((one - other).abs()[likely].max())


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
