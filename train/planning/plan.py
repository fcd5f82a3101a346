"""What a run stands on and goes by, found out before anything is written.

All that can be refused is refused here: an unknown base or version, a name that is taken, rows that
would ruin the run, settings that don't fit, devices and memory that are not there.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hub.errors import Conflict, InvalidData, TrainingError
from hub.home import Home
from hub.names import AdapterRef, parse_reference
from hub.publish import servable_folder
from hub.records import Base, Run, Version
from hub.registry import Registry
from hub.store import Store
from train.config import Settings, TrainConfig, settle
from train.data.formats import read_dataset
from train.data.rows import DataSet
from train.linting.findings import LintReport, TokenStatistics
from train.linting.lint import lint
from train.linting.overlong import fitting, told
from train.planning.preflight import Preflight, preflight
from train.presets import BaseFacts, explained
from train.progress import Progress, Report
from train.runtime import ready
from train.trainers.checkpoints import parent_shape
from train.trainers.launch import is_launched, require_devices
from train.trainers.methods import require_fit

_SHOWN_FINDINGS = 5


@dataclass(frozen=True)
class Inputs:
    """What a run stands on, found and read. `validates` is `heldout` where that is validated on."""

    base: Base
    dataset: DataSet
    heldout: DataSet | None
    parent: Version | None
    parent_folder: Path | None
    validates: DataSet | None = None


@dataclass(frozen=True)
class Plan:
    """A run that could begin: what it would go by, what it stands on, and what it would take."""

    settings: Settings
    lint: LintReport
    preflight: Preflight
    base: Base
    dataset: DataSet
    parent_folder: Path | None


def settled(registry: Registry, home: Home, config: TrainConfig, progress: Report) -> Settings:
    """What `run_training` would train by; refuses what it refuses, and writes nothing."""
    return _settled(home, config, read_inputs(registry, home, config), progress)[0]


def planned(registry: Registry, home: Home, config: TrainConfig, progress: Report) -> Plan:
    """All that `run_training` would do before its first step. Writes nothing, refuses as it does,
    but for what does not fit: that is in the plan."""
    return planned_from(registry, home, config, read_inputs(registry, home, config), progress)


def read_inputs(registry: Registry, home: Home, config: TrainConfig) -> Inputs:
    """Find and read everything, and apply those rules of the lint that need no tokens."""
    parent = _parent(registry, config.continue_from)
    # A continued adapter stays on its base unless told otherwise, and that is then refused.
    found = registry.bases.get(config.base if config.base or parent is None else parent.base)
    registry.versions.require_base(config.adapter, found)
    if config.publish_as == "base":
        _refuse_taken(registry, home, config.new_base or config.adapter)
    folder = None
    if parent is not None:
        if parent.base != found.name:
            raise TrainingError(
                f"{parent} stands on the base '{parent.base}', not on '{found.name}'",
                hint=f"Leave the base out, or set it to {parent.base}.",
            )
        folder = servable_folder(Store.of(registry), parent)
    dataset = read_dataset(config.data, columns=config.columns)
    require_fit(dataset, config.method)
    kept_apart = read_dataset(config.heldout, columns=config.columns) if config.heldout else None
    validates = kept_apart if config.validate_on_heldout else None
    if validates is not None:
        require_fit(validates, config.method)
    _refuse_errors(lint(dataset, heldout=kept_apart))
    return Inputs(found, dataset, kept_apart, parent, folder, validates)


def _refuse_taken(registry: Registry, home: Home, name: str) -> None:
    """A base of its own needs a name that no base and no adapter has."""
    taken = any(base.name == name for base in registry.bases.all())
    if taken or (home.bases / name).exists() or registry.versions.last_number(name):
        raise Conflict(
            f"'{name}' is the name of a base or an adapter here",
            hint="Choose another for the new base with --name.",
        )


def _parent(registry: Registry, reference: str | None) -> Version | None:
    if reference is None:
        return None
    parsed = parse_reference(reference)
    assert isinstance(parsed, AdapterRef)  # TrainConfig lets no other through
    return registry.resolve(parsed)


def _settled(
    home: Home, config: TrainConfig, inputs: Inputs, progress: Report
) -> tuple[Settings, LintReport]:
    facts = BaseFacts.of(inputs.base)
    settings = _settle(config, inputs, facts, len(inputs.dataset), None)
    report = lint_of(inputs, settings, progress)
    if is_launched(settings):
        import torch

        require_devices(settings, torch.cuda.device_count())
    if settings.method == "full":
        from train.trainers.full import require_disk

        require_disk(settings, facts.parameters, home.runs)
    # Again, now that the tokens are counted, of the rows that are left: the preset may be another.
    left = len(fitting(inputs.dataset, report, settings.overlong))
    return _settle(config, inputs, facts, left, report.tokens), report


def planned_from(
    registry: Registry, home: Home, config: TrainConfig, inputs: Inputs, progress: Report
) -> Plan:
    settings, report = _settled(home, config, inputs, progress)
    from train.planning.room import room
    from train.trainers.loading import compute_dtype

    assert report.tokens is not None  # the base's own tokenizer has counted them
    taken = preflight(
        inputs.base,
        settings,
        rows=len(fitting(inputs.dataset, report, settings.overlong)),
        tokens=report.tokens,
        room=room(),
        bf16=compute_dtype().itemsize == 2,
        runs=registry.ledger.runs(),
    )
    for line in (explained(settings), *taken.lines()):
        progress(Progress("loading", note=line))
    return Plan(settings, report, taken, inputs.base, inputs.dataset, inputs.parent_folder)


def _settle(
    config: TrainConfig,
    inputs: Inputs,
    facts: BaseFacts,
    rows: int,
    tokens: TokenStatistics | None,
) -> Settings:
    settings = settle(
        config,
        base_name=inputs.base.name,
        base=facts,
        rows=rows,
        learned=tokens.trained if tokens else None,
    )
    if inputs.parent_folder is None:
        return settings
    # A version, not an alias that may move before a resume; in the shape that its tensors have.
    shape = parent_shape(inputs.parent_folder)
    if settings.method == "full":
        shape = {"rank": shape["rank"], "alpha": shape["rank"]}
    return replace(settings, continue_from=str(inputs.parent), **shape)


def refuse_other_data(run: Run, dataset: DataSet) -> None:
    if dataset.digest != run.dataset_digest:
        raise InvalidData(
            "the data is not what the run began with",
            where=dataset.source,
            hint="Put the file back as it was, or start a new run.",
        )


def lint_of(inputs: Inputs, settings: Settings, progress: Report) -> LintReport:
    """The whole lint, with the base's own tokens; raises InvalidData for errors."""
    progress(Progress("loading"))
    ready(quantize=settings.quantize is not None)
    from train.templates.tokens import ChatTokenizer

    chat = ChatTokenizer.load(inputs.base.source)
    special = chat.tokenizer.all_special_tokens
    report = lint(
        inputs.dataset,
        heldout=inputs.heldout,
        count_tokens=partial(chat.count, cut=settings.cut),
        max_length=settings.max_length,
        overlong=settings.overlong,
        special_tokens=special,
    )
    _refuse_errors(report)
    for line in told(report):
        progress(Progress("loading", note=line))
    kept = fitting(inputs.dataset, report, settings.overlong)
    if len(kept) < len(inputs.dataset):  # fewer rows may be too few, or of one label
        _refuse_errors(lint(kept, heldout=inputs.heldout))
    if inputs.validates is not None:
        _refuse_errors(
            lint(
                inputs.validates,  # what a version is judged by is not shortened
                count_tokens=chat.count,
                max_length=settings.max_length,
                special_tokens=special,
                ignore=("too-few-rows",),
            )
        )
    return report


def _refuse_errors(report: LintReport) -> None:
    if report.ok:
        return
    overlong = any(finding.rule == "overlong" for finding in report.errors)
    raise InvalidData(
        "; ".join(str(finding) for finding in report.errors[:_SHOWN_FINDINGS]),
        where=report.dataset,
        hint="Mend or drop these rows; `hub data lint` shows everything that was found."
        + (" --overlong drop leaves longer ones out, truncate cuts them." if overlong else ""),
    )
