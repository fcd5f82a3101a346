"""Supervised fine-tuning of a LoRA adapter with TRL's SFTTrainer, resumable at any moment.

Rows go in already as tokens (`train.tokens`), with the loss on the assistant's alone. Every linear
layer but the output layer is adapted; the lowest validation loss decides which checkpoint becomes
the adapter. On a CPU, and without dropout, the same settings and rows give the same bytes, killed
and resumed or not.

Absent on purpose: preference methods, several devices, packing.
"""

import errno
import gc
import math
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import set_seed
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from hub.errors import TrainingError
from train.checkpoints import Reached, discard_broken, export_adapter, reached
from train.config import Settings
from train.loading import compute_dtype, device, load_base, put_on
from train.progress import Progress, Report, TrainResult
from train.rows import Row
from train.runtime import quiet
from train.tokens import ChatTokenizer
from train.watcher import Watcher

_IGNORED = -100  # the label that torch's cross entropy leaves out
_LOGGED_POINTS = 400
# Above this, recomputing activations costs less than keeping them.
_CHECKPOINTING_PARAMETERS = 300_000_000


def train_sft(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None = None,
) -> TrainResult:
    """Train, or go on from the checkpoints in `out/checkpoints`; the adapter is in `out/adapter`.

    `parent` is the folder of a version to continue from: its rank and targets are kept.

    Raises:
        BaseError, InvalidConfig: when the base cannot be trained on.
        TrainingError: when memory or disk ran out, or the loss is no longer a number.
    """
    started = time.monotonic()
    checkpoints = out / "checkpoints"
    discard_broken(checkpoints)
    progress(Progress("loading"))
    chat = ChatTokenizer.load(base_source)
    train_set = _dataset(chat, train_rows)
    tokens_per_epoch = sum(len(ids) for ids in train_set["input_ids"])
    done = reached(checkpoints)
    if done is None or not done.finished(settings.early_stopping_patience):
        with quiet(), _Explained(settings):
            model = _model(settings, base_source, parent)
            trainer = _trainer(
                settings,
                model,
                chat,
                train_set,
                _dataset(chat, validation_rows),
                checkpoints,
                progress,
                tokens_per_epoch,
            )
            trainer.train(resume_from_checkpoint=str(done.folder) if done else None)
            del trainer, model
            _release()
        done = reached(checkpoints)
    if done is None:
        raise TrainingError("the trainer ended without a checkpoint", where=str(checkpoints))
    with _Explained(settings):
        adapter = export_adapter(done.best_folder(), out / "adapter", base_name=settings.base)
    return _result(settings, done, adapter, len(train_rows), tokens_per_epoch, started)


def _dataset(chat: ChatTokenizer, rows: Sequence[Row]) -> Dataset:
    encoded = [chat.encode(row) for row in rows]
    return Dataset.from_dict(
        {
            "input_ids": [list(one.ids) for one in encoded],
            "labels": [
                [
                    token if trained else _IGNORED
                    for token, trained in zip(one.ids, one.trained, strict=True)
                ]
                for one in encoded
            ],
        }
    )


def _model(settings: Settings, base_source: str, parent: Path | None) -> Any:
    # Before the adapter is made: its A matrices are random.
    set_seed(settings.seed)
    model = load_base(base_source, quantize=settings.quantize)
    if settings.quantize:
        prepare: Any = prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=_recomputes(model))
    if parent is not None:
        return put_on(model, parent, trainable=True)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _trainer(
    settings: Settings,
    model: Any,
    chat: ChatTokenizer,
    train_set: Dataset,
    validation_set: Dataset,
    checkpoints: Path,
    progress: Report,
    tokens_per_epoch: int,
) -> Any:
    steps_per_epoch = _steps_per_epoch(settings, len(train_set))
    watcher = Watcher(
        progress,
        checkpoints=checkpoints,
        patience=settings.early_stopping_patience,
        steps_per_epoch=steps_per_epoch,
        tokens_per_epoch=tokens_per_epoch,
    )
    validates = len(validation_set) > 0
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(settings.warmup_ratio * steps_per_epoch * settings.epochs),
        lr_scheduler_type="cosine",
        eval_strategy="epoch" if validates else "no",
        save_strategy="epoch",
        # The best and the newest: no less, or a kill between two saves would leave none.
        save_total_limit=2,
        metric_for_best_model="eval_loss" if validates else None,
        greater_is_better=False if validates else None,
        logging_steps=max(1, steps_per_epoch * settings.epochs // _LOGGED_POINTS),
        # Else a loss that is not a number is logged as the last one that was.
        logging_nan_inf_filter=False,
        max_length=None,  # the lint has refused what is too long; nothing is cut silently
        gradient_checkpointing=_recomputes(model),
        bf16=compute_dtype() == torch.bfloat16,
        use_cpu=device().type == "cpu",
        dataloader_pin_memory=device().type == "cuda",
        seed=settings.seed,
        data_seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=validation_set if validates else None,
        processing_class=chat.tokenizer,
        callbacks=[watcher],
    )
    # It prints each log line to stdout once progress bars are off.
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _steps_per_epoch(settings: Settings, rows: int) -> int:
    return math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation)


def _recomputes(model: Any) -> bool:
    return bool(model.num_parameters() > _CHECKPOINTING_PARAMETERS)


def _result(
    settings: Settings,
    done: Reached,
    adapter: Path,
    rows: int,
    tokens_per_epoch: int,
    started: float,
) -> TrainResult:
    steps_per_epoch = _steps_per_epoch(settings, rows)
    best = done.best_step or done.step
    losses = dict(done.validation_losses)
    epoch = [
        point.loss
        for point in done.history
        if point.loss is not None and best - steps_per_epoch < point.step <= best
    ]
    return TrainResult(
        adapter=adapter,
        history=done.history,
        train_loss=sum(epoch) / len(epoch),
        validation_loss=losses.get(best),
        best_step=best,
        best_epoch=best / steps_per_epoch,
        steps=done.step,
        stopped_early=done.step < done.max_steps,
        tokens=round(tokens_per_epoch * done.step / steps_per_epoch),
        seconds=time.monotonic() - started,
        peak_memory=_peak_memory(),
        device=_device_name(),
    )


def _peak_memory() -> int:
    if device().type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name() -> str:
    if device().type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


def _release() -> None:
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()


class _Explained:
    """Turns running out of memory or disk into an error that says which setting to change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if _is_out_of_memory(error):
            raise TrainingError("memory ran out in training", hint=self._smaller()) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainingError(
                "the disk is full",
                where=error.filename,
                hint="Free some space, then resume the run: its checkpoints are kept.",
            ) from error

    def _smaller(self) -> str:
        settings = self._settings
        ways = []
        if settings.batch_size > 1:
            ways.append(
                f"batch_size (now {settings.batch_size}; raise gradient_accumulation, "
                f"now {settings.gradient_accumulation}, by as much to keep the result)"
            )
        ways.append(f"max_length (now {settings.max_length})")
        quantize = "" if settings.quantize else " Or set quantize: nf4."
        return f"Lower {' or '.join(ways)}.{quantize}"


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
