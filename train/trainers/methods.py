"""One training by its method, and what that method alone has to say of it.

    sft, dpo, kto    an adapter, trained on its base
    full             the base itself, trained; then an adapter that is factored of the difference,
                     or a base of its own

Prompt and prefix tuning are absent on purpose: no engine serves them per request.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from hub.errors import InvalidData
from train.config import Settings
from train.data.formats_shapes import KIND_WORDS
from train.data.rows import DataSet, Kind, Row
from train.presets import PREFERENCES
from train.progress import Report, TrainResult
from train.trainers.checkpoints import discard_broken, reached
from train.trainers.launch import Share, Spent, is_launched, train_in_processes

NEEDS: dict[str, Kind] = {
    "sft": "chat",
    "full": "chat",
    "dpo": "preference",
    "kto": "labelled",
}
_FITS: dict[Kind, str] = {"chat": "sft", "preference": "dpo", "labelled": "kto"}
# What `hub data convert --to` can make of one kind for a method that needs another.
_CONVERTED: dict[tuple[Kind, Kind], str] = {
    ("preference", "chat"): "messages",
    ("labelled", "chat"): "messages",
    ("preference", "labelled"): "kto",
}


@dataclass(frozen=True)
class Made:
    """A finished training: its result, facts for the lineage, and lines for a person to read."""

    result: TrainResult
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


class Beside:
    """Two models of one tokenizer that answer as one PeftModel would: `other` in `disable_adapter`.

    So what measures an adapter against its base can measure a model against another.
    """

    def __init__(self, model: Any, other: Any) -> None:
        self._model, self._other = model, other
        self._now = model
        self.device, self.config = model.device, model.config

    def __call__(self, **inputs: Any) -> Any:
        return self._now(**inputs)

    def generate(self, **inputs: Any) -> Any:
        return self._now.generate(**inputs)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self._now = self._other
        try:
            yield
        finally:
            self._now = self._model


def require_fit(dataset: DataSet, method: str) -> None:
    """Refuse data of a kind that the method can't learn from.

    Raises:
        InvalidData: saying what it holds, and the method or the conversion that fits.
    """
    needed = NEEDS[method]
    if dataset.kind == needed:
        return
    target = _CONVERTED.get((dataset.kind, needed))
    convert = f", or `hub data convert --to {target}` first" if target else ""
    raise InvalidData(
        f"these are {KIND_WORDS[dataset.kind]}, and the method {method} needs {KIND_WORDS[needed]}",
        where=dataset.source,
        hint=f"Use --method {_FITS[dataset.kind]}{convert}.",
    )


def train_by_method(
    settings: Settings,
    training: Sequence[Row],
    validation: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    heldout: Sequence[Row],
    progress: Report,
    parent: Path | None,
) -> Made:
    """Train; the result is in `out/adapter`, or in `out/model` where it is a base of its own.

    `heldout` are rows that were kept apart, of any kind; preferences are measured on them if they
    are of the right one, else on `validation`.

    Raises:
        BaseError, InvalidConfig, InvalidData, TrainingError: as `train.trainers.sft`,
            `train.trainers.preference`, `train.trainers.full` and `train.trainers.factor` do.
    """
    where: dict[str, Any] = {"progress": progress, "parent": parent}
    spent = None
    if is_launched(settings):
        spent = _train_apart(settings, training, validation, base_source, out, **where)
    # Finds all that has been trained by others already.
    made = _made(settings, training, validation, base_source, out, heldout=heldout, **where)
    return made if spent is None else replace(made, result=spent.put_into(made.result))


def train_share(share: Share, progress: Report) -> Spent:
    """Take part in a training of several processes; its checkpoints are all that comes of it.

    Raises:
        As `train_by_method`, and RunStopped when it is wanted that the training ends.
    """
    from train.trainers.training import device_names, peak_memory_of_all, train_only

    settings = share.settings
    work, build, _ = _preparer(settings.method)(
        settings, share.training, share.validation, share.base_source, share.out,
        progress=progress, parent=share.continued,
    )  # fmt: skip
    train_only(work, build)
    return Spent(time.monotonic() - work.started, peak_memory_of_all(), device_names())


def _preparer(method: str) -> Any:
    if method in PREFERENCES:
        from train.trainers.preference import prepare_preference

        return prepare_preference
    if method == "full":
        from train.trainers.full import prepare_full

        return prepare_full
    from train.trainers.sft import prepare_sft

    return prepare_sft


def _train_apart(
    settings: Settings,
    training: Sequence[Row],
    validation: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    parent: Path | None,
) -> Spent | None:
    """Have several processes train to the end; None where they had done so before."""
    checkpoints = out / "checkpoints"
    discard_broken(checkpoints)
    done = reached(checkpoints)
    if done is not None and done.finished(settings.early_stopping_patience):
        return None
    return train_in_processes(
        settings, training, validation, base_source, out, progress=progress, continued=parent
    )


def _made(
    settings: Settings,
    training: Sequence[Row],
    validation: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    heldout: Sequence[Row],
    progress: Report,
    parent: Path | None,
) -> Made:
    where: dict[str, Any] = {"progress": progress, "parent": parent}
    if settings.method in PREFERENCES:
        from train.trainers.preference import train_preference

        result = train_preference(settings, training, validation, base_source, out, **where)
        return _preferred(settings, result, validation, heldout, base_source, parent)
    if settings.method == "full":
        from train.trainers.full import train_full

        result = train_full(settings, training, validation, base_source, out, **where)
        if settings.publish_as == "base":
            return Made(result, {"new_base": settings.new_base})
        return _factored(settings, result, validation, base_source, out)
    from train.trainers.sft import train_sft

    return Made(train_sft(settings, training, validation, base_source, out, **where), {})


def load_result(settings: Settings, base_source: str, made: Made) -> Any:
    """What was made, from its files, as a model whose `disable_adapter()` gives the base."""
    from train.trainers.loading import load_base, load_tuned

    if settings.publish_as == "base":
        return Beside(load_base(str(made.result.adapter)).eval(), load_base(base_source).eval())
    return load_tuned(base_source, made.result.adapter, quantize=settings.quantize)


def _preferred(
    settings: Settings,
    result: TrainResult,
    validation: Sequence[Row],
    heldout: Sequence[Row],
    base_source: str,
    parent: Path | None,
) -> Made:
    from train.templates.tokens import ChatTokenizer
    from train.trainers.loading import load_tuned
    from train.trainers.preferred import (
        answers_of,
        comparable,
        few,
        preference_facts,
        reference_answers,
        told,
    )
    from train.trainers.training import release

    fits = heldout and heldout[0].kind == NEEDS[settings.method]
    rows = few(heldout if fits else validation)
    if not comparable(rows):
        return Made(result, {})
    before = reference_answers(base_source, parent, rows, settings.quantize)
    release()
    model = load_tuned(base_source, result.adapter, quantize=settings.quantize)
    facts = preference_facts(
        before,
        answers_of(model, ChatTokenizer.load(base_source), rows),
        beta=settings.beta or 0.0,
        reference=settings.continue_from or settings.base,
        measured_on="held-out rows" if fits else "validation rows",
    )
    return Made(result, {"preference": facts}, tuple(told(facts)))


def _factored(
    settings: Settings,
    result: TrainResult,
    validation: Sequence[Row],
    base_source: str,
    out: Path,
) -> Made:
    from train.trainers.factor import compare, factor, told

    adapter = out / "adapter"
    facts = factor(settings, base_source, result.adapter, adapter).to_json()
    facts |= compare(settings, base_source, result.adapter, adapter, validation)
    rmtree(result.adapter)  # many times the adapter's size; a resume can make it again
    return Made(replace(result, adapter=adapter), {"factored": facts}, tuple(told(facts)))
