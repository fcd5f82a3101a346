"""A version's model card in the Hugging Face card format: generated, never written by hand.

A function of the version's row and its lineage alone, because it is made again whenever a folder
is. So what came later (aliases, evaluations, signatures) is not on it, nor is what nobody recorded,
like a licence. Lineages may come from elsewhere: none of their texts can end the header, a code
span or a block.
"""

import json
import re
from typing import Any

from hub.facts import DatasetFacts
from hub.origins import dataset_of, number, origin_of, part, text
from hub.records import Version

# What vLLM's --max-lora-rank takes.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def render_card(version: Version) -> str:
    """README.md: the YAML header that the Hub reads, and a page for people."""
    lines = [
        "---",
        *_header(version),
        "---",
        "",
        f"# {version}",
        "",
        f"A LoRA adapter of rank {version.rank} for {_code(version.manifest.base.name)},"
        f" published by Loom as {_code(str(version))} on {version.published_at[:10]}.",
        "",
        *_usage(version),
        *_training(version),
        *_identity(version),
    ]
    # A lone surrogate, which JSON can spell, is no character of any file.
    return "\n".join(lines).encode("utf-8", "replace").decode()


def _header(version: Version) -> list[str]:
    lineage = version.lineage
    method = text(lineage, "method")
    fields: dict[str, Any] = {
        "base_model": version.manifest.base.name,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "loom", *([method] if method else [])],
    }
    results = _results(version)
    if results:
        fields["model-index"] = [{"name": str(version), "results": results}]
    return [f"{name}: {_yaml(value)}" for name, value in fields.items()]


def _results(version: Version) -> list[dict[str, Any]]:
    """What training measured, as the Hub's model-index; evaluations come after publishing."""
    dataset = dataset_of(version.lineage)
    loss = number(part(version.lineage, "metrics"), "validation_loss")
    if dataset is None or loss is None:
        return []
    name = dataset.name or "unnamed"
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": name, "type": name, "split": "validation"},
            "metrics": [{"type": "loss", "name": "validation loss", "value": loss}],
        }
    ]


def _usage(version: Version) -> list[str]:
    name = version.adapter.rpartition("/")[2]
    base = version.manifest.base.name
    if "/" not in base:  # no model of the Hub, but a folder that was added under this name
        base = f"path/to/{base}"
    # A row that was tampered with may name a rank that no version has; `hub verify` tells.
    rank = next((allowed for allowed in _RANKS if allowed >= version.rank), version.rank)
    return [
        "## How to use it",
        "",
        "With Loom, through any OpenAI client:",
        "",
        "```python",
        'client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")',
        "client.chat.completions.create(",
        f'    model="{version}", messages=[{{"role": "user", "content": "Hello!"}}]',
        ")",
        "```",
        "",
        "With peft:",
        "",
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f'base = AutoModelForCausalLM.from_pretrained("{base}")',
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        "```",
        "",
        "With vLLM:",
        "",
        "```console",
        f"$ vllm serve {base} --enable-lora --max-lora-rank {rank} \\",
        f"    --lora-modules {name}=path/to/this/folder",
        "```",
        "",
    ]


def _training(version: Version) -> list[str]:
    lineage = version.lineage
    lines = ["## Where it comes from", ""]
    if origin := origin_of(lineage):
        lines.append(f"- pulled from {_code(origin)}")
    dataset = dataset_of(lineage)
    if dataset is not None:
        lines += _data(dataset)
    if parent := text(lineage, "parent"):
        lines.append(f"- continued from {_code(parent)}")
    metrics = part(lineage, "metrics")
    for name in ("validation_loss", "train_loss"):
        value = number(metrics, name)
        if value is not None:
            lines.append(f"- {name.replace('_', ' ')}: {value:.4g}")
    effect = number(part(lineage, "effect"), "largest")
    if effect is not None:
        lines.append(
            "- effect: changes log-probabilities of the next token by up to"
            f" {effect:.3g} nats on probe prompts"
        )
    lines += _examined(lineage)
    if lines[-1]:
        lines.append("")
    # The lint lists single rows, with the files that they were in: not for the public.
    known = {name: value for name, value in lineage.items() if name != "lint"}
    return [*lines, *_block("Everything that is recorded of it", known)]


def _examined(lineage: dict[str, Any]) -> list[str]:
    """Memorisation and forgetting, a line each, where they were measured."""
    lines = []
    memorised = part(lineage, "memorisation")
    length = number(memorised, "passage_tokens")
    if length is not None:
        shares = [
            f"{passages:g} of {outputs:g} answers to {prompts} prompts"
            for name, prompts in (("unseen", "unseen"), ("trained", "training"))
            if (outputs := number(part(memorised, name), "outputs"))
            and (passages := number(part(memorised, name), "passages")) is not None
        ]
        if shares:
            lines.append(
                f"- memorisation: {' and '.join(shares)} repeat {length:g} or more tokens of one"
                " training answer"
            )
    forgot = part(lineage, "forgetting")
    facts = [number(forgot, name) for name in ("base_loss", "tuned_loss", "difference")]
    if None not in facts:
        base, tuned, difference = facts
        little = "" if forgot.get("telling") else "; the base itself hardly knows such text"
        lines.append(
            f"- forgetting: {tuned:.3f} nats a token on general text, the base {base:.3f}"
            f" ({difference:+.3f}){little}"
        )
    return lines


def _data(dataset: DatasetFacts) -> list[str]:
    split = [
        f"{rows} {name}"
        for name, rows in (
            ("to train on", dataset.training_rows),
            ("to validate on", dataset.validation_rows),
        )
        if rows is not None
    ]
    rows = "" if dataset.rows is None else f", {dataset.rows} rows"
    shown = f" ({', '.join(split)})" if split else ""
    lines = [
        f"- trained on {_code(dataset.name)}{rows}{shown}, {_code('sha256:' + dataset.digest)}"
    ]
    if dataset.lint is not None:
        lines.append(
            "- its lint found nothing" if not dataset.lint.findings else "- its lint found:"
        )
        lines += [f"  - {_code(finding)}" for finding in dataset.lint.findings]
    return lines


def _identity(version: Version) -> list[str]:
    base = version.manifest.base
    return [
        "## What it is",
        "",
        f"- digest: `sha256:{version.digest}`",
        f"- base: {_code(base.name)}, revision {_code(base.revision)}",
        *(f"- {_code(f.path)}: {f.size:,} bytes, `sha256:{f.sha256}`"
          for f in version.manifest.files),
        "",
    ]  # fmt: skip


def _block(title: str, facts: dict[str, Any]) -> list[str]:
    body = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["<details>", f"<summary>{title}</summary>", "", f"{fence}json", body, fence, "",
            "</details>", ""]  # fmt: skip


def _code(words: str) -> str:
    """A code span on one line, whatever is in the text."""
    plain = " ".join(words.replace("`", "'").split())
    shown = "".join(c if c.isprintable() else _UNPRINTABLE for c in plain)
    return f"`{shown}`"


def _yaml(value: object) -> str:
    """JSON is YAML, save for raw characters that YAML calls unprintable: those are escaped."""
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False)
    )
