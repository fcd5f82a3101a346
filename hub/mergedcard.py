"""The card of a merged model: generated, and saying all that it was made of."""

import json
from typing import TYPE_CHECKING

from hub.facts import VersionFacts

if TYPE_CHECKING:
    from hub.merge import Merged


def render_merged_card(version: VersionFacts, merged: "Merged") -> str:
    """README.md with the Hugging Face card's YAML header."""
    base = version.base
    return "\n".join(
        [
            "---",
            # JSON strings are YAML strings, so no value can break out of its field.
            f"base_model: {json.dumps(base.name)}",
            "base_model_relation: finetune",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            'tags: ["lora", "merged", "loom"]',
            "---",
            "",
            f"# {base.name} with {version.version}",
            "",
            f"The base model `{base.name}` with the LoRA adapter `{version.version}` merged into"
            " its weights by Loom.",
            "",
            f"- adapter: `{version.version}`, rank {version.rank}, `sha256:{version.digest}`",
            *(f"- adapter file `{f.path}`: `sha256:{f.sha256}`" for f in version.files),
            f"- base: `{base.name}`, revision `{base.revision}`, digest `{base.digest}`",
            f"- weights: {merged.dtype}, added in float32",
            *(["- embedding and output layer are untied; the base has one weight for both"]
              if merged.untied else []),
            "",
            "## Compared with base + adapter",
            "",
            f"At {merged.positions} positions of probe prompts and their answers, the largest"
            f" difference in log-probability is {merged.largest:.2g} nats (the adapter itself"
            f" changes them by up to {merged.effect:.2g}), and {merged.agreement:.1%} of the"
            " likeliest tokens are the same.",
            "",
        ]
    )  # fmt: skip
