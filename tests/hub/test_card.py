"""The model card: what the Hugging Face Hub reads of it, and that nothing in it can break out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hub.card import render_card
from hub.manifest import BaseIdentity
from hub.publish import publish, servable_folder
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import Store
from tests.conftest import acts, base_shapes, write_adapter
from tests.hub.test_lineage import LINEAGE


@pytest.fixture
def version(registry: Registry, store: Store, base: Base, tmp_path: Path) -> Version:
    source = write_adapter(tmp_path / "adapter")
    return publish(
        registry, store, "acme/support", source, base, measure_effect=acts, lineage=LINEAGE
    )[0]


def test_the_hub_reads_its_header(version: Version, store: Store) -> None:
    """huggingface_hub loads the file that lies in the version's folder, and finds every field."""
    card = ModelCard.load(store.folder(version) / "README.md")
    data = card.data
    assert data.base_model == "tiny"
    assert data.base_model_relation == "adapter"
    assert data.library_name == "peft"
    assert data.pipeline_tag == "text-generation"
    assert data.tags == ["lora", "loom", "sft"]
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_name) == ("text-generation", "tickets")
    assert (result.metric_type, result.metric_name, result.metric_value) == (
        "loss", "validation loss", 0.5,
    )  # fmt: skip
    assert data.license is None
    # What the library writes of what it read is what it reads again.
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()


def test_the_page_tells_people_what_it_is(version: Version) -> None:
    """Digest, data with lint, results, and how to use it with Loom, peft and vLLM."""
    page = render_card(version)
    for words in (
        f"`sha256:{version.digest}`", "400 rows (360 to train on, 40 to validate on)",
        "warning: near-duplicate: differs only in case (18 rows)", "validation loss: 0.5",
        'model="acme/support@1"', 'PeftModel.from_pretrained(base, "path/to/this/folder")',
        "--max-lora-rank 8", "--lora-modules support=path/to/this/folder", '"learning_rate": 0.005',
    ):  # fmt: skip
        assert words in page


def test_no_file_of_the_machine_is_named(version: Version) -> None:
    """The lint's rows carry paths; the card goes public."""
    assert "/home/ann" not in render_card(version)


def test_it_is_a_function_of_the_version(
    version: Version, registry: Registry, store: Store, tmp_path: Path
) -> None:
    """Promotions, evaluations and time leave it alone: a folder made again has the same card."""
    folder = store.folder(version)
    before = (folder / "README.md").read_bytes()
    registry.aliases.move(version, "candidate", action="set")
    folder.chmod(0o755)
    folder.rename(tmp_path / "gone")
    servable_folder(store, registry.versions.get("acme/support", 1))
    assert (folder / "README.md").read_bytes() == before


def test_a_model_of_the_hub_is_named_as_it_is_loaded(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    """A base with an owner is named as transformers and vLLM take it; a folder is a path."""
    identity = BaseIdentity("Qwen/Qwen3-0.6B", "c" * 40, "c" * 64, "t" * 64, "")
    base = registry.bases.add("Qwen/Qwen3-0.6B", identity, base_shapes())
    source = write_adapter(tmp_path / "a")
    (source / "adapter_config.json").write_text(
        (source / "adapter_config.json").read_text().replace('"tiny"', '"Qwen/Qwen3-0.6B"')
    )
    version, _ = publish(registry, store, "a", source, base, measure_effect=acts, lineage={})
    page = render_card(version)
    assert ModelCard(page).data.base_model == "Qwen/Qwen3-0.6B"
    assert "$ vllm serve Qwen/Qwen3-0.6B --enable-lora" in page
    assert 'AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-0.6B")' in page


@pytest.mark.parametrize("name", [
    "x\n---\nlicense: mit\n", "```\n# pwned", "`code`", '"quoted" # comment', "a: b", "{{ x }}",
    "\x00\x07\x7f\x85\u2028\ufeff", "\U0001f600", "\ud800", "é" * 300,
])  # fmt: skip
def test_no_text_breaks_out_of_its_place(version: Version, name: str) -> None:
    """Names that a lineage from elsewhere may hold end neither header nor code nor fence."""
    lineage: dict[str, Any] = {
        **LINEAGE, "method": name, "parent": name, "kind": "imported", "source": name,
        "dataset": {**LINEAGE["dataset"], "name": name},
        "lint": {"counts": {}, "findings": [{"rule": name, "severity": name, "reason": name}]},
    }  # fmt: skip
    page = render_card(replace(version, lineage=lineage))
    header, _, body = page.removeprefix("---\n").partition("\n---\n")
    fields = yaml.safe_load(header)
    assert set(fields) == {
        "base_model", "base_model_relation", "library_name", "pipeline_tag", "tags", "model-index",
    }  # fmt: skip
    assert fields["tags"][-1].encode("utf-8", "replace") == name.encode("utf-8", "replace")
    assert "# pwned" not in [line.strip() for line in body.splitlines()]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert headings == [
        "# acme/support@1", "## How to use it", "## Where it comes from", "## What it is",
    ]  # fmt: skip
    assert ModelCard(page).data.base_model == "tiny"
    page.encode()
