"""A training config as commented YAML: every setting, a line on what it means, and its value.

`hub train --print-config` prints it, and reads it back. A setting that must not be given beside the
others (a parent's rank, a beta without preferences) stands there as a comment.
"""

from collections.abc import Mapping
from typing import Any

from train.config import Settings, TrainConfig

# What is left open follows from the preset once base and rows are known; `null` says that.
MEANINGS = {
    "adapter": "The adapter's name; the result is its next version.",
    "data": "Files or Hugging Face data sets to train on, one or a list.",
    "heldout": "Files whose questions must not be in the data.",
    "validate_on_heldout": "Validate on the heldout rows, instead of on some of the data.",
    "columns": "Which column of a file holds a field, such as {instruction: question}.",
    "base": "A base of this hub, a folder or a Hub model; null: the default one.",
    "continue_from": "A version to train on from, such as support@3; its shape is kept.",
    "method": "sft (answers), dpo (pairs), kto (labels), or full (the base's own weights).",
    "beta": "How hard dpo and kto hold on to their reference; null: 0.1.",
    "publish_as": "What full becomes: adapter (its difference, factored) or base.",
    "new_base": "The name of a base of its own; null: the adapter's.",
    "preset": "What fills in the nulls below: auto, style, task, knowledge or tiny.",
    "rank": "LoRA's rank, 1 to 512.",
    "alpha": "LoRA's alpha; the update is scaled by alpha / rank.",
    "rslora": "Scale by alpha / sqrt(rank) instead.",
    "dropout": "LoRA's dropout, 0 to 1; without it runs can be repeated byte for byte.",
    "learning_rate": "The highest one; it warms up to it and falls by a cosine.",
    "warmup_ratio": "The share of all steps that warm up, 0 to 0.5.",
    "epochs": "How often every row is seen, at most.",
    "batch_size": "Rows a step, on each device.",
    "gradient_accumulation": "Batches that make one step: more of them need no more memory.",
    "max_length": "Tokens a row may have; null: 2048 or what the base can read.",
    "overlong": "Rows of more tokens: error refuses the data, drop leaves them out, truncate cuts.",
    "validation": "The share of rows kept to validate on, 0 to 0.5; 0 validates nothing.",
    "early_stopping_patience": "Evaluations without improvement that end it; 0 never does.",
    "quantize": "nf4 holds the base in 4 bits (QLoRA); null does not.",
    "sweep": "Try values of one setting and keep the best: learning_rate=1e-4,3e-4.",
    "seed": "Same seed, same bytes (on a CPU).",
    "processes": "Processes that train together, one a device.",
    "launch": "More arguments for `accelerate launch`, which starts them.",
    "report_prompts": "Prompts answered for the report, of rows seen and unseen each; 0: none.",
    "publish": "Whether the result becomes a version at once.",
}
_EXAMPLE = {"adapter": "my-adapter", "data": ["train.jsonl"]}


def asked_yaml(asked: Mapping[str, Any]) -> str:
    """What was asked for, and the defaults of all else."""
    fields = TrainConfig.model_fields
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if not field.is_required()
    }
    return _text({**_EXAMPLE, **defaults, **asked})


def settled_yaml(settings: Settings) -> str:
    """What a run would go by, with nothing left to a preset."""
    known = {key: value for key, value in settings.to_json().items() if key in MEANINGS}
    return _text({**known, "sweep": None})


def _text(values: Mapping[str, Any]) -> str:
    plain = {key: _plain(values[key]) for key in MEANINGS if key in values}
    out = _refused(plain)
    lines = ["# hub train CONFIG.yaml", "# Flags win over it. `hub train --help` names them.", ""]
    for key, value in plain.items():
        mark = "# " if key in out else ""
        lines.append(f"# {MEANINGS[key]}")
        lines.append(f"{mark}{key}: {_yaml(value)}")
    return "\n".join(lines) + "\n"


def _refused(values: Mapping[str, Any]) -> set[str]:
    """The settings that can't be given beside the others."""
    problems = TrainConfig.problems({k: v for k, v in values.items() if v is not None})
    return {problem.partition(":")[0] for problem in problems}


def _plain(value: object) -> Any:
    if isinstance(value, tuple | list):
        return [str(entry) for entry in value]
    return dict(value) if isinstance(value, Mapping) else value


def _yaml(value: Any) -> str:
    import yaml  # comes with transformers

    if isinstance(value, float):
        # YAML 1.1 reads 5e-05 as text; a number needs its point and its sign.
        text = repr(value)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")
