"""What differs between two versions, and the norms of it against updates formed in full."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.adapterfile import read_adapter
from hub.deltas import compare_updates, total_of
from hub.facts import Diff
from hub.home import Home
from hub.local import LocalHub
from hub.manifest import BaseIdentity
from hub.publish import publish
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import (
    HIDDEN,
    RANK,
    VOCABULARY,
    acts,
    adapter_config,
    adapter_tensors,
    base_shapes,
    write_adapter,
)

Tensors = dict[str, np.ndarray]
Q0 = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def hub(home: Home, registry: Registry) -> LocalHub:
    return LocalHub(home, registry, acts)


def dense(tensors: Tensors, scale: float) -> dict[str, np.ndarray]:
    """Every module's update, formed in full."""
    prefix, suffix = "base_model.model.", ".lora_A.weight"
    return {
        name.removeprefix(prefix).removesuffix(suffix): scale
        * tensors[name.replace("lora_A", "lora_B")].astype(np.float64)
        @ tensors[name].astype(np.float64)
        for name in tensors
        if name.endswith(suffix)
    }


def check_against_dense(
    folders: tuple[Path, Path], a: dict[str, np.ndarray], b: dict[str, np.ndarray]
) -> None:
    changes = compare_updates(*(read_adapter(folder) for folder in folders))
    assert {change.module for change in changes} == a.keys() | b.keys()
    for change in changes:
        left = a.get(change.module, np.zeros(1))
        right = b.get(change.module, np.zeros(1))
        norms = np.linalg.norm(left), np.linalg.norm(right), np.linalg.norm(left - right)
        assert (change.norm_a, change.norm_b, change.norm_difference) == pytest.approx(norms)
        if norms[0] and norms[1]:
            cosine = (left * right).sum() / norms[0] / norms[1]
            assert change.cosine == pytest.approx(cosine, abs=1e-9)
        else:
            assert change.cosine is None
    total = total_of(changes)
    both = [np.concatenate([side.get(m, np.zeros(0)).ravel() for m in a | b]) for side in (a, b)]
    assert total.norm_a == pytest.approx(np.linalg.norm(both[0]))
    assert total.norm_b == pytest.approx(np.linalg.norm(both[1]))
    if both[0].shape == both[1].shape:
        assert total.norm_difference == pytest.approx(np.linalg.norm(both[1] - both[0]))
        inner = float(both[0] @ both[1])
        assert total.cosine == pytest.approx(inner / total.norm_a / total.norm_b, abs=1e-9)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("rank", [1, RANK, 9])
def test_norms_are_those_of_the_whole_updates(tmp_path: Path, rank: int, rslora: bool) -> None:
    """For equal and different ranks, alphas and scales: the same as forming B A."""
    one, other = adapter_tensors(1), adapter_tensors(2, rank=rank)
    folders = (
        write_adapter(tmp_path / "a", one, adapter_config(lora_alpha=6)),
        write_adapter(tmp_path / "b", other, adapter_config(rank, lora_alpha=5, use_rslora=rslora)),
    )
    scale = 5 / np.sqrt(rank) if rslora else 5 / rank
    check_against_dense(folders, dense(one, 6 / RANK), dense(other, scale))


def test_modules_of_one_side_only(tmp_path: Path) -> None:
    """Their update is zero on the other side, and no angle is made up."""
    one, other = adapter_tensors(1), adapter_tensors(2)
    for key in [key for key in one if "o_proj" in key]:
        del one[key]
    for key in [key for key in other if "up_proj" in key]:
        del other[key]
    config = adapter_config(target_modules="any", lora_alpha=RANK)
    folders = (
        write_adapter(tmp_path / "a", one, config), write_adapter(tmp_path / "b", other, config),
    )  # fmt: skip
    check_against_dense(folders, dense(one, 1.0), dense(other, 1.0))


def test_embeddings_and_half_precision(tmp_path: Path) -> None:
    """An embedding's pair lies the other way round; float16 is widened."""
    rng = np.random.default_rng(5)
    key = "base_model.model.model.embed_tokens.lora_embedding"
    sides = [
        {
            f"{key}_A": rng.normal(size=(RANK, VOCABULARY)).astype(np.float16),
            f"{key}_B": rng.normal(size=(HIDDEN, RANK)).astype(np.float16),
        }
        for _ in range(2)
    ]
    config = adapter_config(target_modules=["embed_tokens"], lora_alpha=RANK)
    folders = [write_adapter(tmp_path / str(i), side, config) for i, side in enumerate(sides)]
    full = [
        {"model.embed_tokens": s[f"{key}_B"].astype(np.float64) @ s[f"{key}_A"].astype(np.float64)}
        for s in sides
    ]
    check_against_dense((folders[0], folders[1]), full[0], full[1])


def test_the_same_weights_differ_by_nothing(tmp_path: Path) -> None:
    """Exactly 0 and a cosine of 1; and the same update factored otherwise, nearly."""
    one = adapter_tensors(1)
    turned = {k: v * (2 if "lora_A" in k else 0.5) for k, v in one.items()}
    folders = [write_adapter(tmp_path / str(i), side) for i, side in enumerate((one, one, turned))]
    same = compare_updates(read_adapter(folders[0]), read_adapter(folders[1]))
    assert {(change.norm_difference, change.cosine) for change in same} == {(0.0, 1.0)}
    for change in compare_updates(read_adapter(folders[0]), read_adapter(folders[2])):
        assert change.norm_difference < 1e-6 * change.norm_a
        assert change.cosine == pytest.approx(1.0)


def add(
    hub: LocalHub,
    base: Base,
    folder: Path,
    tensors: Tensors,
    lineage: dict[str, Any],
    *,
    name: str = "support",
    **config: Any,
) -> Version:
    source = write_adapter(folder, tensors, adapter_config(**config))
    return publish(
        hub.registry, Store.of(hub.registry), name, source, base, measure_effect=acts,
        lineage=lineage,
    )[0]  # fmt: skip


def fields(changes: Any) -> dict[str, tuple[Any, Any]]:
    return {change.field: (change.a, change.b) for change in changes}


@pytest.fixture
def two(hub: LocalHub, base: Base, tmp_path: Path) -> Diff:
    """One module changed, one setting, more rows, a better loss, an evaluation of the second."""
    tensors = adapter_tensors(1)
    add(hub, base, tmp_path / "1", tensors, {
        "config": {"learning_rate": 0.1, "rank": RANK, "data": ["a.jsonl"]},
        "dataset": {"rows": 400, "digest": "a" * 64}, "metrics": {"validation_loss": 0.5},
        "libraries": {"peft": "0.21.1", "torch": "2.13"}, "lint": {"counts": {"warning": 1}},
    })  # fmt: skip
    tensors[f"base_model.model.{Q0}.lora_B.weight"] *= 2
    second = add(hub, base, tmp_path / "2", tensors, {
        "config": {"learning_rate": 0.2, "rank": RANK, "data": ["a.jsonl", "b.jsonl"]},
        "dataset": {"rows": 401, "digest": "a" * 64}, "metrics": {"validation_loss": 0.25},
        "libraries": {"peft": "0.21.2", "torch": "2.13"}, "lint": {"counts": {"warning": 0}},
        "parent": "support@1",
    })  # fmt: skip
    heldout = hub.registry.ledger.add_dataset(
        digest="9" * 64, name="h", source="h", format="messages", rows=60, lint={}
    )
    hub.registry.ledger.add_evaluation(
        second, against="base", dataset=heldout, metric="label", verdict="PASS",
        result={"tuned": 0.967, "summary": "s", "reason": "r"},
    )  # fmt: skip
    return hub.diff("support@1", "support@2")


def test_what_differs_and_nothing_else(two: Diff) -> None:
    """Settings, data, results, circumstances, each where it belongs; what is equal is left out."""
    assert fields(two.config) == {
        "learning_rate": (0.1, 0.2),
        "data": (["a.jsonl"], ["a.jsonl", "b.jsonl"]),
    }
    assert fields(two.data) == {"rows": (400, 401), "lint.warning": (1, 0)}
    assert fields(two.metrics) == {
        "validation_loss": (0.5, 0.25),
        "evaluation: label on sha256:999999999999 against base": (None, "96.7% PASS"),
    }
    assert fields(two.other) == {
        "parent": (None, "support@1"),
        "libraries.peft": ("0.21.1", "0.21.2"),
    }


def test_the_most_changed_module_is_first(two: Diff) -> None:
    """The one whose B was doubled moved by its own norm; all others not at all."""
    first, *others = two.weights
    assert first.module == Q0
    assert first.norm_b == pytest.approx(2 * first.norm_a)
    assert first.norm_difference == pytest.approx(first.norm_a)
    assert {change.norm_difference for change in others} == {0.0}
    assert two.total is not None
    assert two.total.norm_difference == pytest.approx(first.norm_difference)


def test_an_adapters_own_config_counts_where_no_training_is_known(
    hub: LocalHub, base: Base, tmp_path: Path
) -> None:
    """Rank and alpha of pulled versions come from their files, under the names of training."""
    add(hub, base, tmp_path / "1", adapter_tensors(1), {"config": {"rank": RANK, "alpha": 8}})
    add(hub, base, tmp_path / "2", adapter_tensors(1, rank=2), {}, rank=2, lora_alpha=8)
    assert fields(hub.diff("support@1", "support@2").config) == {"rank": (RANK, 2)}


def test_versions_of_different_bases(hub: LocalHub, base: Base, tmp_path: Path) -> None:
    """Config and data are compared; of the weights it is said that they can't be."""
    identity = BaseIdentity("other", "sha256:x", "c" * 64, "t" * 64, "")
    other = hub.registry.bases.add("/nowhere/other", identity, base_shapes())
    add(hub, base, tmp_path / "1", adapter_tensors(1), {})
    add(hub, other, tmp_path / "2", adapter_tensors(2), {"config": {"seed": 1}}, name="formal",
        base_model_name_or_path="other")  # fmt: skip
    found = hub.diff("support", "formal")
    assert (found.weights, found.total) == ((), None)
    assert "can't be compared" in found.note
    assert fields(found.other)["base"] == ("tiny", "other")
    assert fields(found.config)["seed"] == (None, 1)


def test_the_command(two: Diff, home: Home) -> None:
    """`hub diff A B` prints the changes, the most changed modules and a total; --json all of it."""
    run = Hub(home.root)
    shown = run.ok("diff", "support@1", "support@2").stdout
    assert "learning_rate  0.1" in shown
    assert Q0 in shown
    assert "all 6 modules" in shown
    found = run.ok("diff", "support@1", "support@2", "--json").json()
    assert len(found["weights"]) == 6
    assert found["total"]["norm_difference"] > 0
    assert "same bytes" in run.ok("diff", "support@1", "support@1").stdout
