"""The publish gate: each fault is refused by its own check, and what people have is accepted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hub.errors import AdapterRejected
from hub.home import Home
from hub.inspect import CHECKS, examine, inspect_adapter
from hub.publish import publish
from hub.records import Base
from hub.registry import Registry
from hub.store import Store
from tests.conftest import HIDDEN, RANK, acts, adapter_config, adapter_tensors, write_adapter
from tests.hub.corpus import (
    B0,
    CONFIG,
    CORRUPTIONS,
    GOOD,
    WEIGHTS,
    add_norm,
    poison,
    with_tensors,
    write_bfloat16,
)


def left_behind(home: Home) -> list[Path]:
    """Every file of the hub's that is not the registry's own or a lock."""
    return [path for path in home.data.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("fault", CORRUPTIONS)
def test_what_would_not_serve_is_refused(
    registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path, fault: str
) -> None:
    """Each fault is refused by its own check, naming file and tensor, and leaves nothing behind."""
    spoil, check, file, tensor, words = CORRUPTIONS[fault]
    folder = write_adapter(tmp_path / "adapter")
    spoil(folder)
    with pytest.raises(AdapterRejected) as refused:
        publish(registry, store, "support", folder, base, measure_effect=acts, lineage={})
    error = refused.value
    said = f"{error} {error.hint}"
    assert error.check == check
    assert file in said
    assert tensor in said
    assert words in said
    assert str(folder) in str(error.where)
    assert registry.summaries() == []
    assert left_behind(home) == []
    (found,) = [c for c in examine(folder, base) if c.check == check]
    assert found.state == "failed"
    assert words in found.message


def test_only_matrices_can_be_adapted(base: Base, tmp_path: Path) -> None:
    """A pair for a norm, whose weight is a vector, is refused by its shape."""
    folder = write_adapter(tmp_path / "adapter")
    with_tensors(add_norm)(folder)
    normed = replace(base, shapes={**base.shapes, "model.norm.weight": (HIDDEN,)})
    with pytest.raises(AdapterRejected, match=r"model\.norm\.lora_A.*is \[8\]"):
        inspect_adapter(folder, normed)


def test_every_check_has_its_fault() -> None:
    """No check of the gate is there that nothing in the corpus fails (effect has its own test)."""
    assert {check for _, check, *_ in CORRUPTIONS.values()} == {
        "files", "config", "readable", "names", *CHECKS,
    }  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_what_people_have_is_accepted(
    registry: Registry, store: Store, base: Base, tmp_path: Path, kind: str
) -> None:
    """Adapters as the usual trainers save them, and every part that the engine serves, pass."""
    folder = write_adapter(tmp_path / "adapter")
    GOOD[kind](folder)
    version, created = publish(registry, store, "a", folder, base, measure_effect=acts, lineage={})
    assert created
    assert {path.name for path in store.folder(version).iterdir()} == {CONFIG, WEIGHTS, "README.md"}
    assert {check.state for check in examine(folder, base)} <= {"ok", "skipped"}


def test_a_pattern_from_a_file_is_never_run(base: Base, tmp_path: Path) -> None:
    """One that takes years as a regular expression takes no time here."""
    folder = write_adapter(tmp_path / "a", config=adapter_config(target_modules="(.+)+(.+)+(.+)+!"))
    (complete,) = [c for c in examine(folder, base) if c.check == "complete"]
    assert complete.state == "skipped"
    assert "target_modules is a pattern" in complete.message


@pytest.mark.parametrize("setting", [
    {"exclude_modules": "(.+)+(.+)+(.+)+!"},
    {"layers_to_transform": [0, 1], "layers_pattern": "(.+)+(.+)+(.+)+!"},
], ids=lambda setting: list(setting)[-1])  # fmt: skip
def test_what_is_skipped_names_the_pattern(
    base: Base, tmp_path: Path, setting: dict[str, object]
) -> None:
    """The other settings that PEFT runs as one, too."""
    folder = write_adapter(tmp_path / "a", config=adapter_config(**setting))
    (complete,) = [c for c in examine(folder, base) if c.check == "complete"]
    assert complete.state == "skipped"
    assert f"{list(setting)[-1]} is a pattern" in complete.message


def test_a_nan_is_found_in_half_precision_too(base: Base, tmp_path: Path) -> None:
    """In float16 and in bfloat16."""
    half = {key: value.astype(np.float16) for key, value in adapter_tensors().items()}
    assert inspect_adapter(write_adapter(tmp_path / "half", half), base).rank == RANK
    half[B0][0, 0] = np.nan
    folder = write_adapter(tmp_path / "brain")
    for spoiled in (write_adapter(tmp_path / "nan", half), folder):
        write_bfloat16(folder, poison(float("nan")))
        with pytest.raises(AdapterRejected, match="NaN"):
            inspect_adapter(spoiled, base)
