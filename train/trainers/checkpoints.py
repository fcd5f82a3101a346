"""The trainer's checkpoints on disk: which are whole, which is best, and the adapter made from one.

transformers writes a checkpoint in several files, so a killed run may leave one half-written. A
marker is put into each after its last file; a folder without it is deleted before a resume. What a
run has reached is read from the newest whole checkpoint alone, never from memory, so that an
interrupted and an uninterrupted run end in the same way, in the same bytes. The marker says how
many seconds it took to get there.
"""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.errors import TrainingError
from hub.manifest import canonical_json
from train.progress import Point

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MARKER = "complete"
_FOLDER = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Reached:
    """How far a run is, as its newest whole checkpoint has it. Losses by step, oldest first."""

    folder: Path
    step: int
    max_steps: int
    history: tuple[Point, ...]
    best_step: int | None

    @property
    def validation_losses(self) -> list[tuple[int, float]]:
        return [
            (point.step, point.validation_loss)
            for point in self.history
            if point.validation_loss is not None
        ]

    def finished(self, patience: int) -> bool:
        return self.step >= self.max_steps or out_of_patience(
            [loss for _, loss in self.validation_losses], patience
        )

    def best_folder(self) -> Path:
        """The checkpoint with the lowest validation loss; the newest where nothing validates."""
        if self.best_step is None:
            return self.folder
        return self.folder.parent / f"checkpoint-{self.best_step}"


def out_of_patience(losses: list[float], patience: int) -> bool:
    """Whether the last `patience` evaluations brought nothing better. 0 is endless patience."""
    if patience == 0 or not losses:
        return False
    best = losses.index(min(losses))
    return len(losses) - 1 - best >= patience


def mark_complete(folder: Path, step: int, seconds: float) -> None:
    """`seconds` is what the training took up to here, in all its processes one after another."""
    (folder / f"checkpoint-{step}" / _MARKER).write_text(f"{seconds:.3f}\n", encoding="utf-8")


def began(folder: Path) -> float:
    """When a training began, on `time.monotonic`'s clock; resumed, as if it had never paused.

    What was trained after the checkpoint that it goes on from is lost, and so is its time.
    """
    whole = newest(folder)
    text = (whole / _MARKER).read_text(encoding="utf-8").strip() if whole else ""
    # Killed in the instant of its marking, a checkpoint is whole and its time is not known.
    return time.monotonic() - (float(text) if text else 0.0)


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    whole = [path for path in _all(folder) if (path / _MARKER).exists()]
    return max(whole, key=_step, default=None)


def discard_broken(folder: Path) -> None:
    for path in _all(folder):
        if not (path / _MARKER).exists():
            shutil.rmtree(path)


def reached(folder: Path) -> Reached | None:
    """What the newest whole checkpoint says, or None where there is none."""
    path = newest(folder)
    if path is None:
        return None
    state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    return Reached(
        folder=path,
        step=int(state["global_step"]),
        max_steps=int(state["max_steps"]),
        history=tuple(_points(state["log_history"])),
        best_step=int(state["best_global_step"]) if state.get("best_global_step") else None,
    )


def _points(log: list[dict[str, Any]]) -> list[Point]:
    return [
        Point(
            step=int(entry["step"]),
            epoch=float(entry["epoch"]),
            loss=entry.get("loss"),
            validation_loss=entry.get("eval_loss"),
        )
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    ]


def export_adapter(checkpoint: Path, out: Path, *, base_name: str) -> Path:
    """Make `out` a plain PEFT folder from a checkpoint: two files, nothing of this machine in them.

    `base_model_name_or_path` becomes the base's name in the registry, because the folder that the
    base was loaded from means nothing elsewhere. Lists are sorted: peft keeps target modules in a
    set, whose order changes from process to process. Written aside and renamed, so it is whole.
    """
    scratch = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, scratch / ADAPTER_WEIGHTS)
    config = json.loads((checkpoint / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    for key in ("target_modules", "layers_to_transform", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    # Through canonical JSON first: it refuses NaN, and is the order of keys in the manifest.
    text = json.dumps(json.loads(canonical_json(config)), indent=2, ensure_ascii=False)
    (scratch / ADAPTER_CONFIG).write_text(f"{text}\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    scratch.rename(out)
    return out


def parent_shape(folder: Path) -> dict[str, Any]:
    """Rank, alpha and rsLoRA of a published adapter, which a continued one keeps.

    Raises:
        TrainingError: when its configuration cannot be read.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {
            "rank": int(config["r"]),
            "alpha": int(config["lora_alpha"]),
            "rslora": bool(config.get("use_rslora", False)),
        }
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            "the version to continue from can't be read", where=str(path)
        ) from error


def _all(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _FOLDER.fullmatch(path.name)]


def _step(path: Path) -> int:
    found = _FOLDER.fullmatch(path.name)
    assert found is not None
    return int(found[1])
