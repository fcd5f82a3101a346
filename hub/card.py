"""A version's model card in the Hugging Face card format: generated, never written by hand."""

import json
from typing import Any

from hub.manifest import Manifest


def render_card(adapter: str, number: int, manifest: Manifest, lineage: dict[str, Any]) -> str:
    """README.md with its YAML header, from the manifest and the lineage alone."""
    return "\n".join(
        [
            "---",
            # JSON strings are YAML strings, so no value can break out of its field.
            f"base_model: {json.dumps(manifest.base.name)}",
            "library_name: peft",
            'tags: ["lora", "loom"]',
            "---",
            "",
            f"# {adapter}@{number}",
            "",
            f"A LoRA adapter of `{manifest.base.name}`, published by Loom.",
            "",
            f"- digest: `sha256:{manifest.digest()}`",
            f"- base revision: `{manifest.base.revision}`",
            *_files(manifest),
            *_training(lineage),
            "",
            "```json",
            json.dumps(lineage, indent=2, sort_keys=True, ensure_ascii=False),
            "```",
            "",
        ]
    )


def _files(manifest: Manifest) -> list[str]:
    return [
        f"- `{entry.path}`: {entry.size:,} bytes, `sha256:{entry.sha256}`"
        for entry in manifest.files
    ]


def _training(lineage: dict[str, Any]) -> list[str]:
    lines = ["", "## Where it comes from", ""]
    dataset = lineage.get("dataset")
    if isinstance(dataset, dict):
        lines.append(
            f"Trained on `{dataset.get('name')}` ({dataset.get('rows')} rows,"
            f" `sha256:{dataset.get('digest')}`)."
        )
    if lineage.get("parent"):
        lines.append(f"Continued from `{lineage['parent']}`.")
    return [*lines, "Everything that is known of it:"]
