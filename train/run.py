"""One training run from config to finished adapter, recorded in the registry's ledger.

The order is what makes refusals clean: everything that can be refused (config, base, data, lint) is
checked before anything is written. From then on the run exists, with a folder of its own, and ends
as `finished` with its lineage or as `failed` with a reason; killed, it is `interrupted`
(`train.run_state`), and `run_training(resume=run)` finishes it. Nothing here publishes: a run's
adapter is a folder until somebody does.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from hub.errors import Conflict, HubError, InvalidData, TrainingError
from hub.home import Home
from hub.manifest import canonical_json
from hub.names import AdapterRef, parse_reference
from hub.publish import servable_folder
from hub.records import Base, Run, Version
from hub.registry import Registry
from hub.store import Store
from train.checkpoints import parent_shape
from train.config import Settings, TrainConfig, settle
from train.findings import LintReport, TokenStatistics
from train.formats import read_dataset
from train.lineage import lineage
from train.lint import lint
from train.methods import load_result, require_fit, train_by_method
from train.near import near_key
from train.presets import BaseFacts, explained
from train.progress import Progress, Report
from train.rows import DataSet
from train.run_state import locked, refuse_unresumable
from train.runtime import ready
from train.split import split

_SHOWN_FINDINGS = 5
_LISTED_ROWS = 20


@dataclass(frozen=True)
class _Inputs:
    """What a run stands on, found and read."""

    base: Base
    dataset: DataSet
    heldout: DataSet | None
    parent: Version | None
    parent_folder: Path | None


def run_training(
    registry: Registry,
    home: Home,
    config: TrainConfig,
    *,
    progress: Report,
    resume: Run | None = None,
    member: Mapping[str, Any] | None = None,
) -> Run:
    """Train as the config says, or finish `resume` from its last checkpoint; the finished run.

    A resumed run goes by its own recorded settings; of the config only the files count. The
    adapter is then in `home.runs/<id>/adapter`, the report in `report.html` beside it; a base of
    its own is in `model`. `member` is what `train.sweep` knows a run of a sweep by.

    Raises:
        UnknownBase, UnknownReference: when the base or the version to continue from is not here.
        InvalidName, AdapterRejected: when what comes out could not be published: the adapter's
            name is a base's, or the adapter stands on another base.
        InvalidData: when a file or row is unusable; the lint's errors with their rows; data that is
            not what the resumed run began with.
        Conflict: when the run to resume is finished, or another process is at it.
        InvalidConfig, BaseError, MissingExtra: when the run could not begin.
        TrainingError: when it began and could not be carried through, or its folder could not be
            written; its reason is recorded.
    """
    progress(Progress("reading"))
    if resume is not None:
        refuse_unresumable(resume)
    inputs = _read(registry, home, config)
    if resume is not None:
        settings = Settings.from_json(resume.config)
        _refuse_other_data(resume, inputs.dataset)
        report = _lint(inputs, settings.max_length, settings.quantize, progress)
    else:
        settings, report = _settled(home, config, inputs, progress)
        settings = replace(settings, sweep=dict(member or {}))
        progress(Progress("loading", note=explained(settings)))
    run = _start(registry, home, inputs, settings, report) if resume is None else resume
    with locked(home.runs / run.id):
        if resume is not None:
            run = registry.ledger.resume_run(run.id)
        return _carry_through(registry, home, run, inputs, settings, report, progress)


def settled(registry: Registry, home: Home, config: TrainConfig, progress: Report) -> Settings:
    """What `run_training` would train by; refuses what it refuses, and writes nothing."""
    return _settled(home, config, _read(registry, home, config), progress)[0]


# Before the run: nothing is written


def _read(registry: Registry, home: Home, config: TrainConfig) -> _Inputs:
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
    _refuse_errors(lint(dataset, heldout=kept_apart))
    return _Inputs(found, dataset, kept_apart, parent, folder)


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
    home: Home, config: TrainConfig, inputs: _Inputs, progress: Report
) -> tuple[Settings, LintReport]:
    facts = BaseFacts.of(inputs.base)
    settings = _settle(config, inputs, facts, None)
    report = _lint(inputs, settings.max_length, settings.quantize, progress)
    if settings.method == "full":
        from train.full import require_room

        require_room(settings, facts.parameters, home.runs)
    # Again, now that the tokens are counted: the preset may be another.
    return _settle(config, inputs, facts, report.tokens), report


def _settle(
    config: TrainConfig, inputs: _Inputs, facts: BaseFacts, tokens: TokenStatistics | None
) -> Settings:
    settings = settle(
        config,
        base_name=inputs.base.name,
        base=facts,
        rows=len(inputs.dataset),
        learned=tokens.trained if tokens else None,
    )
    if inputs.parent_folder is None:
        return settings
    # A version, not an alias that may move before a resume; in the shape that its tensors have.
    shape = parent_shape(inputs.parent_folder)
    if settings.method == "full":
        shape = {"rank": shape["rank"], "alpha": shape["rank"]}
    return replace(settings, continue_from=str(inputs.parent), **shape)


def _refuse_other_data(run: Run, dataset: DataSet) -> None:
    if dataset.digest != run.dataset_digest:
        raise InvalidData(
            "the data is not what the run began with",
            where=dataset.source,
            hint="Put the file back as it was, or start a new run.",
        )


def _lint(inputs: _Inputs, max_length: int, quantize: str | None, progress: Report) -> LintReport:
    """The whole lint, with the base's own tokens; raises InvalidData for errors."""
    progress(Progress("loading"))
    ready(quantize=quantize is not None)
    from train.tokens import ChatTokenizer

    chat = ChatTokenizer.load(inputs.base.source)
    report = lint(
        inputs.dataset,
        heldout=inputs.heldout,
        count_tokens=chat.count,
        max_length=max_length,
        special_tokens=chat.tokenizer.all_special_tokens,
    )
    _refuse_errors(report)
    return report


def _refuse_errors(report: LintReport) -> None:
    if report.ok:
        return
    raise InvalidData(
        "; ".join(str(finding) for finding in report.errors[:_SHOWN_FINDINGS]),
        where=report.dataset,
        hint="Mend or drop these rows; `hub data lint` shows everything that was found.",
    )


def _start(
    registry: Registry, home: Home, inputs: _Inputs, settings: Settings, report: LintReport
) -> Run:
    """The first thing that is written: the run in the ledger, and its folder."""
    dataset = registry.ledger.add_dataset(
        digest=inputs.dataset.digest,
        name=inputs.dataset.name,
        source=inputs.dataset.source,
        format=inputs.dataset.format,
        rows=len(inputs.dataset),
        lint=report.to_json(max_rows=_LISTED_ROWS),
    )
    run = registry.ledger.start_run(
        settings.adapter, settings.method, inputs.base, dataset, settings.to_json()
    )
    # A folder that can't be made or written ends the run here, not as `running` for ever.
    with _recorded(registry, run), locked(home.runs / run.id):
        return run


# The run


def _carry_through(
    registry: Registry,
    home: Home,
    run: Run,
    inputs: _Inputs,
    settings: Settings,
    report: LintReport,
    progress: Report,
) -> Run:
    folder = home.runs / run.id
    with _recorded(registry, run):
        _write_json(folder / "config.json", settings.to_json())
        facts = _train(folder, inputs, settings, report, progress)
        finished = registry.ledger.finish_run(run.id, facts)
        # Only a run that is not finished can go on from them.
        rmtree(folder / "checkpoints", ignore_errors=True)
    progress(Progress("done"))
    return finished


def _train(
    folder: Path, inputs: _Inputs, settings: Settings, report: LintReport, progress: Report
) -> dict[str, Any]:
    """Train, check the effect of what was written, report; the lineage of the adapter."""
    from train.effect import effect_of
    from train.report import write_report
    from train.samples import answer_samples
    from train.tokens import ChatTokenizer

    training, validation = split(
        inputs.dataset, validation=settings.validation, key=near_key(inputs.dataset.rows)
    )
    made = train_by_method(
        settings,
        training.rows,
        validation.rows,
        inputs.base.source,
        folder,
        heldout=inputs.heldout.rows if inputs.heldout else (),
        progress=progress,
        parent=inputs.parent_folder,
    )
    for line in made.notes:
        progress(Progress("checking", note=line))
    progress(Progress("checking"))
    # From the files, not from the trainer's memory: the files are what will be published.
    model = load_result(settings, inputs.base.source, made)
    chat = ChatTokenizer.load(inputs.base.source)
    effect = effect_of(model, chat)
    if not effect.changes:
        made_of = "the trained base" if settings.publish_as == "base" else "the adapter"
        raise TrainingError(
            f"{made_of} changes nothing: the model answers the probe prompts as without it",
            hint=f"Raise learning_rate (now {settings.learning_rate:g}) or epochs.",
        )
    facts = lineage(
        settings,
        base=inputs.base,
        dataset=inputs.dataset,
        lint=report,
        rows=(len(training), len(validation)),
        parent=inputs.parent,
        result=made.result,
        effect=effect.to_json(),
    )
    facts |= made.facts
    progress(Progress("reporting"))
    samples = answer_samples(model, chat, validation.rows)
    write_report(folder / "report.html", facts, made.result.history, samples)
    _write_json(folder / "history.json", [asdict(point) for point in made.result.history])
    return facts


@contextmanager
def _recorded(registry: Registry, run: Run) -> Iterator[None]:
    """Whatever ends the run before its time is written down as its reason."""
    try:
        yield
    except KeyboardInterrupt:
        registry.ledger.fail_run(run.id, "stopped by the user")
        raise
    except HubError as error:
        registry.ledger.fail_run(run.id, str(error))
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        registry.ledger.fail_run(run.id, reason)
        raise TrainingError(
            f"the run {run.id} failed: {reason}", hint="HUB_DEBUG=1 shows where."
        ) from error


def _write_json(path: Path, value: object) -> None:
    """Whole or not at all, and refusing NaN as all our JSON does."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(json.loads(canonical_json(value)), indent=2), encoding="utf-8")
    scratch.replace(path)
