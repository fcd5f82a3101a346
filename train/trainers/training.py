"""What every method's training shares: one trainer's arguments, its checkpoints and its end.

A method (`train.trainers.sft`, `train.trainers.preference`, `train.trainers.full`) makes a trainer;
the rest is here: going on from the newest whole checkpoint, early stopping, the best checkpoint as
the result, and running out of memory or disk told as what to change. On a CPU, and without dropout,
the same settings and rows give the same bytes, killed and resumed or not.

With several processes each is in `train_only`; what is made of the checkpoints then (`carry_out`)
is made by the one that started them (`train.trainers.launch`).

Absent on purpose: packing.
"""

import gc
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers.trainer_callback import PrinterCallback

from hub.errors import RunStopped, TrainingError
from train.config import Settings
from train.presets import CHECKPOINTING_PARAMETERS
from train.progress import Report, TrainResult
from train.runtime import quiet
from train.trainers.checkpoints import Reached, discard_broken, reached
from train.trainers.loading import compute_dtype, device
from train.trainers.nospace import is_no_space, no_space
from train.trainers.watcher import Watcher

_LOGGED_POINTS = 400


@dataclass(frozen=True)
class Work:
    """One training. `rows` counts those that are trained on, `tokens` all of theirs in an epoch.

    `started` is what `train.trainers.checkpoints.began` says.
    """

    settings: Settings
    out: Path
    rows: int
    tokens: int
    validates: bool
    progress: Report
    started: float

    @property
    def checkpoints(self) -> Path:
        return self.out / "checkpoints"

    @property
    def steps_per_epoch(self) -> int:
        batches = math.ceil(self.rows / self.settings.batch_size)
        each = math.ceil(batches / self.settings.processes)
        return math.ceil(each / self.settings.gradient_accumulation)

    def watcher(self) -> Watcher:
        return Watcher(
            self.progress,
            checkpoints=self.checkpoints,
            started=self.started,
            patience=self.settings.early_stopping_patience,
            steps_per_epoch=self.steps_per_epoch,
            tokens_per_epoch=self.tokens,
        )

    def arguments(self, model: Any) -> dict[str, Any]:
        """What every trainer of TRL is told; rows are never cut, so `max_length` is none."""
        settings, steps = self.settings, self.steps_per_epoch * self.settings.epochs
        return {
            "output_dir": str(self.checkpoints),
            "num_train_epochs": settings.epochs,
            "per_device_train_batch_size": settings.batch_size,
            "per_device_eval_batch_size": settings.batch_size,
            "gradient_accumulation_steps": settings.gradient_accumulation,
            "learning_rate": settings.learning_rate,
            "warmup_steps": math.ceil(settings.warmup_ratio * steps),
            "lr_scheduler_type": "cosine",
            "eval_strategy": "epoch" if self.validates else "no",
            "save_strategy": "epoch",
            # The best and the newest: no less, or a kill between two saves would leave none.
            "save_total_limit": 2,
            "metric_for_best_model": "eval_loss" if self.validates else None,
            "greater_is_better": False if self.validates else None,
            "logging_steps": max(1, steps // _LOGGED_POINTS),
            # Else a loss that is not a number is logged as the last one that was.
            "logging_nan_inf_filter": False,
            "max_length": None,  # the lint has refused what is too long; nothing is cut silently
            "gradient_checkpointing": recomputes(model),
            "bf16": compute_dtype() == torch.bfloat16,
            "use_cpu": device().type == "cpu",
            "dataloader_pin_memory": device().type == "cuda",
            "seed": settings.seed,
            "data_seed": settings.seed,
            "report_to": "none",
            "disable_tqdm": True,
        }


class Prepared(NamedTuple):
    """A training that could begin: see `carry_out`."""

    work: Work
    build: Callable[[], Any]
    export: Callable[[Path], Path]


def carry_out(work: Work, build: Callable[[], Any], export: Callable[[Path], Path]) -> TrainResult:
    """Train to the end, or go on to it; `export` makes the result of the best checkpoint.

    `build` makes the trainer, with the base loaded. It is not called where all is trained already.

    Raises:
        TrainingError: when memory or disk ran out, or the loss is no longer a number.
        RunStopped: when somebody wanted that it ends; there is a checkpoint of that step.
    """
    settings = work.settings
    discard_broken(work.checkpoints)
    done = reached(work.checkpoints)
    if done is None or not done.finished(settings.early_stopping_patience):
        train_only(work, build)
        done = reached(work.checkpoints)
    if done is None:
        raise TrainingError("the trainer ended without a checkpoint", where=str(work.checkpoints))
    with Explained(settings, work.out):
        made = export(done.best_folder())
    return _result(work, done, made)


def train_only(work: Work, build: Callable[[], Any]) -> None:
    """Train from the newest whole checkpoint to the end; raises as `carry_out`."""
    done = reached(work.checkpoints)
    with quiet(), Explained(work.settings, work.out):
        trainer = build()
        # It prints each log line to stdout once progress bars are off.
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(done.folder) if done else None)
        _refuse_stopped(work, trainer)
        del trainer
        release()


def _refuse_stopped(work: Work, trainer: Any) -> None:
    """Raises RunStopped when the training has ended because somebody wanted it."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, Watcher) and callback.stopped is not None:
            raise RunStopped.when(callback.stopped, work.out.name, step=trainer.state.global_step)


def recomputes(model: Any) -> bool:
    """Whether activations are computed again for the gradient, to save the memory for them."""
    return bool(model.num_parameters() > CHECKPOINTING_PARAMETERS)


def release() -> None:
    """Give back the memory of models that nothing names any more."""
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()


def _result(work: Work, done: Reached, made: Path) -> TrainResult:
    best = done.best_step or done.step
    losses = dict(done.validation_losses)
    epoch = [
        point.loss
        for point in done.history
        if point.loss is not None and best - work.steps_per_epoch < point.step <= best
    ]
    return TrainResult(
        adapter=made,
        history=done.history,
        train_loss=sum(epoch) / len(epoch),
        validation_loss=losses.get(best),
        best_step=best,
        best_epoch=best / work.steps_per_epoch,
        steps=done.step,
        stopped_early=done.step < done.max_steps,
        tokens=round(work.tokens * done.step / work.steps_per_epoch),
        seconds=time.monotonic() - work.started,
        peak_memory=_peak_memory(),
        device=_device_name(),
    )


def peak_memory_of_all() -> int:
    """What a training's processes needed: the largest GPU's, or all of them on a CPU. Bytes."""
    each: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(each, _peak_memory())
    return int(max(each) if device().type == "cuda" else sum(each))


def device_names() -> str:
    return f"{torch.distributed.get_world_size()} x {_device_name()}"


def _peak_memory() -> int:
    if device().type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name() -> str:
    if device().type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


class Explained:
    """Turns running out of memory or disk into an error that says which setting to change."""

    def __init__(self, settings: Settings, out: Path | None = None) -> None:
        self._settings, self._out = settings, out

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if _is_out_of_memory(error):
            raise TrainingError("memory ran out in training", hint=self._smaller()) from error
        if error is not None and is_no_space(error):
            if self._out is not None:
                # What is half written takes the room that the registry needs to say so.
                discard_broken(self._out / "checkpoints")
            raise no_space(str(self._out or ""), error) from error

    def _smaller(self) -> str:
        settings = self._settings
        ways = []
        if settings.batch_size > 1:
            ways.append(
                f"batch_size (now {settings.batch_size}; raise gradient_accumulation, "
                f"now {settings.gradient_accumulation}, by as much to keep the result)"
            )
        ways.append(f"max_length (now {settings.max_length})")
        quantize = ""
        if settings.method == "full":
            quantize = " Or use --method sft, which trains an adapter alone."
        elif not settings.quantize:
            quantize = " Or set quantize: nf4."
        return f"Lower {' or '.join(ways)}.{quantize}"


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
