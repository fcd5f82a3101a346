"""Full fine-tuning of a small base: every weight is trained, and the result is a model folder.

What becomes of it is `train.trainers.factor`'s business (an adapter) or `hub.cli.trained`'s (a base
of its own). Weights are trained in float32, with Adam's two moments: 16 bytes a parameter before
any activation, so a base that does not fit is refused before it is loaded.

Absent on purpose: full fine-tuning by preferences, in 4 bits, or of a base that needs several
devices. An adapter does all three.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, set_seed

from hub.errors import InvalidConfig
from hub.modelfolder import copy_companions, written_whole
from train.config import Settings
from train.data.rows import Row
from train.progress import Progress, Report, TrainResult
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer
from train.trainers.checkpoints import began
from train.trainers.loading import load_base, put_on
from train.trainers.sft import token_sets, trainer_of
from train.trainers.training import Prepared, Work, carry_out

_BYTES_ON_DISK = 36  # two checkpoints and one that is being written, of weight and moments
_GIGABYTE = 1e9


def train_full(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None = None,
) -> TrainResult:
    """As `train.trainers.sft.train_sft`, of the base itself; the result's folder is `out/model`.

    `parent` is the folder of a version to continue from: training begins with its update added to
    the base's weights. The model is stored in the base's dtype.

    Raises:
        BaseError, InvalidConfig: when the base cannot be trained on.
        TrainingError: when memory or disk ran out, or the loss is no longer a number.
    """
    return carry_out(
        *prepare_full(
            settings,
            train_rows,
            validation_rows,
            base_source,
            out,
            progress=progress,
            parent=parent,
        )
    )


def prepare_full(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None,
) -> Prepared:
    """As `train.trainers.sft.prepare_sft`, of the base itself."""
    started = began(out / "checkpoints")
    progress(Progress("loading"))
    chat = ChatTokenizer.load(base_source)
    train_set, validation_set = token_sets(chat, train_rows, validation_rows, settings.cut)
    work = Work(
        settings,
        out,
        rows=len(train_rows),
        tokens=sum(map(len, train_set["input_ids"])),
        validates=validation_set is not None,
        progress=progress,
        started=started,
    )

    def build() -> Any:
        set_seed(settings.seed)
        model = load_base(base_source, dtype=torch.float32)
        if parent is not None:
            model = put_on(model, parent).merge_and_unload(safe_merge=True)
        model.requires_grad_(True)
        return trainer_of(work, model, chat, train_set, validation_set)

    def export(checkpoint: Path) -> Path:
        return _model_folder(checkpoint, Path(base_source), out / "model")

    return Prepared(work, build, export)


def require_disk(settings: Settings, parameters: int, runs: Path) -> None:
    """Refuse a base whose checkpoints would not fit on the disk; for the memory see
    `train.planning.preflight`.

    Raises:
        InvalidConfig: with the estimate, what there is, and what to do.
    """
    place = runs if runs.is_dir() else runs.parent
    disk, free = parameters * _BYTES_ON_DISK, shutil.disk_usage(place).free
    if disk > free:
        problem = (
            f"method: its checkpoints take about {disk / _GIGABYTE:,.1f} GB, and"
            f" {free / _GIGABYTE:,.1f} GB are free in {runs}; use method sft, which trains an"
            " adapter alone, or make room"
        )
        raise InvalidConfig([problem], where=f"base {settings.base}")


def _model_folder(checkpoint: Path, base: Path, out: Path) -> Path:
    """The checkpoint's weights with all else as the base has it: whole, or not there."""
    if out.exists():  # of a run that was killed after it, or finished
        return out
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        with written_whole(out) as scratch:
            model.to(_dtype_of(base)).save_pretrained(scratch)
            copy_companions(base, scratch)
            for path in scratch.glob("*.safetensors"):
                # safetensors makes them private; whoever may read the config may read them.
                path.chmod((scratch / "config.json").stat().st_mode)
    return out


def _dtype_of(base: Path) -> torch.dtype:
    """What most of the base's weights are stored in."""
    sizes: dict[torch.dtype, int] = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is not a mapping
                tensor = tensors.get_tensor(key)
                sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    kept = {dtype: size for dtype, size in sizes.items() if dtype.is_floating_point}
    return max(kept, key=lambda dtype: kept[dtype], default=torch.float32)
