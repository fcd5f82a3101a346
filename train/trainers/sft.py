"""Supervised fine-tuning of a LoRA adapter with TRL's SFTTrainer, resumable at any moment.

Rows go in already as tokens (`train.templates.tokens`), with the loss on the assistant's alone.
Every linear layer but the output layer is adapted; the lowest validation loss decides which
checkpoint becomes the adapter.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from train.config import Settings
from train.data.rows import Row
from train.progress import Progress, Report, TrainResult
from train.templates.tokens import ChatTokenizer
from train.trainers.checkpoints import began, export_adapter
from train.trainers.lora import in_float32, lora_model
from train.trainers.training import Prepared, Work, carry_out

_IGNORED = -100  # the label that torch's cross entropy leaves out


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
    return carry_out(
        *prepare_sft(
            settings,
            train_rows,
            validation_rows,
            base_source,
            out,
            progress=progress,
            parent=parent,
        )
    )


def prepare_sft(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None,
) -> Prepared:
    """What `train_sft` carries out, and what each of several processes takes its part in."""
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
        model = lora_model(settings, base_source, parent)
        return in_float32(trainer_of(work, model, chat, train_set, validation_set))

    def export(checkpoint: Path) -> Path:
        return export_adapter(checkpoint, out / "adapter", base_name=settings.base)

    return Prepared(work, build, export)


def token_sets(
    chat: ChatTokenizer,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    cut: int | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Rows as token ids with the labels that are learned; None where nothing validates.

    Only the first `cut` tokens of a row, where it is given.
    """
    validation = _dataset(chat, validation_rows, cut) if validation_rows else None
    return _dataset(chat, train_rows, cut), validation


def trainer_of(
    work: Work, model: Any, chat: ChatTokenizer, train_set: Dataset, validation_set: Dataset | None
) -> Any:
    """TRL's trainer of whatever the model has that requires a gradient."""
    return SFTTrainer(
        model=model,
        args=SFTConfig(**work.arguments(model)),
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=chat.tokenizer,
        callbacks=[work.watcher()],
    )


def _dataset(chat: ChatTokenizer, rows: Sequence[Row], cut: int | None) -> Dataset:
    encoded = [chat.encode(row).cut(cut) for row in rows]
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
