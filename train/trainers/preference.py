"""DPO from preference pairs and KTO from labelled answers, with TRL's trainers and peft.

What an answer is compared with is the reference: the base with the adapter off, or, where a run
continues from a version, that version. `beta` says how hard the answers are held to it.

Rows go in as tokens (`train.templates.tokens`), as in SFT: the same template, and of a row's answer
only the assistant's own tokens count, so what tools answered is read but not compared. TRL would
render the rows again, count everything after the prompt, and lay messages of different fields into
one table; so its preparation of data is left out, by the one method of its trainers that is
overridden here.

DPO is Rafailov et al., arXiv 2305.18290; KTO is Ethayarajh et al., arXiv 2402.01306. KTO's weights
make up for labels that are not balanced: by its equation 8 the rarer label gets the inverse ratio
of the counts.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer  # type: ignore[attr-defined]

from hub.errors import InvalidData, TrainingError
from train.config import Settings
from train.data.rows import Message, Row
from train.progress import Progress, Report, TrainResult
from train.templates.tokens import ChatTokenizer, Encoded
from train.trainers.checkpoints import began, export_adapter
from train.trainers.loading import put_on
from train.trainers.lora import in_float32, lora_config, prepared_base
from train.trainers.training import Prepared, Work, carry_out

_REFERENCE = "ref"  # TRL's name for its frozen copy of an adapter that it is given


def train_preference(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None = None,
) -> TrainResult:
    """As `train.trainers.sft.train_sft`, by the method of the settings: `dpo` or `kto`.

    The losses of the result are the method's own, not nats a token.

    Raises:
        BaseError, InvalidConfig: when the base cannot be trained on.
        InvalidData: when a row can't be told apart into prompt and answer.
        TrainingError: when memory or disk ran out, or the loss is no longer a number.
    """
    return carry_out(
        *prepare_preference(
            settings,
            train_rows,
            validation_rows,
            base_source,
            out,
            progress=progress,
            parent=parent,
        )
    )


def prepare_preference(
    settings: Settings,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None,
) -> Prepared:
    """As `train.trainers.sft.prepare_sft`, of an adapter by preferences."""
    started = began(out / "checkpoints")
    progress(Progress("loading"))
    chat = ChatTokenizer.load(base_source)
    rows = list(train_rows)
    if settings.method == "kto":
        # Its trainer goes through the rows in their order, whose labels may come in blocks.
        random.Random(settings.seed).shuffle(rows)
    train_set = _dataset(chat, rows)
    work = Work(
        settings,
        out,
        rows=len(rows),
        tokens=_tokens(train_set),
        validates=bool(validation_rows),
        progress=progress,
        started=started,
    )

    def build() -> Any:
        validation_set = _dataset(chat, validation_rows) if validation_rows else None
        model = prepared_base(settings, base_source)
        if parent is not None:
            model = put_on(model, parent, trainable=True, dropout=settings.dropout)
        trainer = _trainer(
            work,
            model,
            None if parent is not None else lora_config(settings),
            chat,
            (train_set, validation_set),
            label_weights(rows) if settings.method == "kto" else None,
        )
        return in_float32(trainer)

    def export(checkpoint: Path) -> Path:
        return export_adapter(checkpoint, out / "adapter", base_name=settings.base)

    return Prepared(work, build, export)


def label_weights(rows: Iterable[Row]) -> tuple[float, float]:
    """KTO's weights of good and of bad answers: 1 for the more frequent label."""
    labels = [row.label for row in rows]
    good, bad = labels.count(True), labels.count(False)
    if not good or not bad:
        return 1.0, 1.0
    return max(1.0, bad / good), max(1.0, good / bad)


# -- rows as tokens -------------------------------------------------------------------------------


def encode_answer(chat: ChatTokenizer, row: Row, answer: Sequence[Message]) -> Encoded:
    """A row's prompt with one of its answers; trained are the answer's own tokens alone.

    Cut after the last of those: what a template adds behind them is nobody's answer.

    Raises:
        InvalidData: where the template marks none of the answer.
    """
    prompt = tuple(
        replace(message, weight=0) if message.role == "assistant" else message
        for message in row.prompt
    )
    messages = (*prompt, *(replace(message, weight=None) for message in answer))
    encoded = chat.encode(replace(row, messages=messages, rejected=(), label=None, answer_at=None))
    if True not in encoded.trained:
        raise InvalidData(
            "the chat template marks nothing of the answer as the assistant's",
            where=f"{row.file}, row {row.number}",
        )
    end = len(encoded.trained) - encoded.trained[::-1].index(True)
    return Encoded(encoded.ids[:end], encoded.trained[:end])


def _dataset(chat: ChatTokenizer, rows: Sequence[Row]) -> Dataset:
    first = [encode_answer(chat, row, row.completion) for row in rows]
    columns: dict[str, list[Any]] = {
        "ids": [list(one.ids) for one in first],
        "marks": [list(map(int, one.trained)) for one in first],
    }
    if rows[0].kind == "preference":
        other = [encode_answer(chat, row, row.rejected) for row in rows]
        columns["other_ids"] = [list(one.ids) for one in other]
        columns["other_marks"] = [list(map(int, one.trained)) for one in other]
    else:
        columns["label"] = [row.label for row in rows]
    return Dataset.from_dict(columns)


def _tokens(dataset: Dataset) -> int:
    columns = [name for name in ("ids", "other_ids") if name in dataset.column_names]
    return sum(len(ids) for name in columns for ids in dataset[name])


@dataclass(frozen=True)
class _Pairs:
    """Batches as DPOTrainer wants them: the chosen ones, then the rejected ones."""

    pad: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        chosen = [(row["ids"], row["marks"]) for row in rows]
        return _batch([*chosen, *((row["other_ids"], row["other_marks"]) for row in rows)],
                      self.pad)  # fmt: skip


@dataclass(frozen=True)
class _Labelled:
    """Batches as KTOTrainer wants them.

    Its estimate of how far the model is from the reference needs prompts with answers that are not
    theirs: each prompt's is that of the row before it in the batch, cut where the two together are
    longer than `limit` tokens.
    """

    pad: int
    limit: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        own = [(row["ids"], row["marks"]) for row in rows]
        starts = [marks.index(1) for _, marks in own]
        strange = [
            ((ids[:start] + own[at - 1][0][starts[at - 1] :])[: self.limit],
             (marks[:start] + own[at - 1][1][starts[at - 1] :])[: self.limit])
            for at, ((ids, marks), start) in enumerate(zip(own, starts, strict=True))
        ]  # fmt: skip
        other = {f"KL_{name}": tensor for name, tensor in _batch(strange, self.pad).items()}
        labels = torch.tensor([row["label"] for row in rows])
        return {**_batch(own, self.pad), **other, "label": labels}


def _batch(pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """(rows, longest) each, padded on the right."""
    ids = [torch.tensor(one) for one, _ in pairs]
    marks = [torch.tensor(one) for _, one in pairs]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "completion_mask": pad_sequence(marks, batch_first=True),
    }


# -- trainers -------------------------------------------------------------------------------------


class _WithoutReference(TrainerCallback):
    """Takes the reference's copy out of each checkpoint, before the checkpoint is called whole.

    It is made again of the parent at every start. And where it lies, the trainer resumes from it
    alone: it takes a folder with an adapter in it for all the adapters that there are.
    """

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        rmtree(folder / _REFERENCE, ignore_errors=True)


class _TokenizedDPO(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset


class _TokenizedKTO(KTOTrainer):
    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset


def _trainer(
    work: Work,
    model: Any,
    adapter: Any,
    chat: ChatTokenizer,
    sets: tuple[Dataset, Dataset | None],
    weights: tuple[float, float] | None,
) -> Any:
    settings, tokenizer = work.settings, chat.tokenizer
    if settings.beta is None:
        raise TrainingError(f"{settings.method} needs a beta", hint="Set beta: 0.1.")
    common: dict[str, Any] = {
        **work.arguments(model),
        "beta": settings.beta,
        "remove_unused_columns": False,  # the collators know their own
        # TRL switches it off unasked, the adapter's too.
        "disable_dropout": settings.dropout == 0,
    }
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    parts = {
        "model": model,
        "peft_config": adapter,
        "train_dataset": sets[0],
        "eval_dataset": sets[1],
        "processing_class": tokenizer,
        "callbacks": [_WithoutReference(), work.watcher()],
    }
    if weights is None:
        return _TokenizedDPO(args=DPOConfig(**common), data_collator=_Pairs(pad), **parts)
    good, bad = weights
    arguments = KTOConfig(**common, desirable_weight=good, undesirable_weight=bad)
    return _TokenizedKTO(args=arguments, data_collator=_Labelled(pad, settings.max_length), **parts)
