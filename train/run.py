"""One training run from config to finished adapter, recorded in the registry's ledger.

The order is what makes refusals clean: everything that can be refused (config, base, data, lint) is
checked before anything is written. From then on the run exists, with a folder of its own, and ends
as `finished` with its lineage, as `failed` with a reason, or as `cancelled` or `paused` where
somebody wanted that; killed, it is `interrupted` (`hub.run_state`), and `run_training(resume=run)`
finishes it. Nothing here publishes: a run's adapter is a folder until somebody does.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from hub.errors import HubError, RunStopped, TrainingError
from hub.home import Home
from hub.manifest import canonical_json
from hub.records import Run
from hub.registry import Registry
from hub.run_state import locked, refuse_unresumable
from train.config import Settings, TrainConfig
from train.data.near import near_key
from train.data.rows import DataSet
from train.data.split import split
from train.events import Recorder
from train.lineage import lineage
from train.linting.findings import LintReport
from train.linting.overlong import fitting
from train.planning.plan import Inputs, lint_of, planned_from, read_inputs, refuse_other_data
from train.progress import Progress, Report
from train.trainers.methods import load_result, train_by_method
from train.trainers.nospace import is_no_space, no_space

_LISTED_ROWS = 20


def run_training(
    registry: Registry,
    home: Home,
    config: TrainConfig,
    *,
    progress: Report,
    resume: Run | None = None,
    member: Mapping[str, Any] | None = None,
    force: bool = False,
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
        RunStopped: when somebody wanted that it ends; it is recorded as cancelled or paused.
    """
    progress(Progress("reading"))
    if resume is not None:
        refuse_unresumable(resume, home)
    inputs = read_inputs(registry, home, config)
    if resume is not None:
        settings = Settings.from_json(resume.config)
        refuse_other_data(resume, inputs.dataset)
        report = lint_of(inputs, settings, progress)
    else:
        plan = planned_from(registry, home, config, inputs, progress)
        if not force:
            plan.preflight.require()
        settings, report = replace(plan.settings, sweep=dict(member or {})), plan.lint
    with ExitStack() as held:
        if resume is not None:
            held.enter_context(locked(home.runs / resume.id))
            run = registry.ledger.resume_run(resume.id)
        else:
            run = _start(registry, inputs, settings, report)
            # A folder that can't be made or written ends the run, else it were `running` for ever.
            with _recorded(registry, run):
                held.enter_context(locked(home.runs / run.id))
        return _carry_through(registry, home, run, inputs, settings, report, progress)


def _start(registry: Registry, inputs: Inputs, settings: Settings, report: LintReport) -> Run:
    """The first thing that is written: the run in the ledger."""
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
    for finding in report.findings:
        if finding.severity == "warning":
            registry.ledger.add_event(run.id, "warning", {"message": str(finding)})
    return run


def _carry_through(
    registry: Registry,
    home: Home,
    run: Run,
    inputs: Inputs,
    settings: Settings,
    report: LintReport,
    progress: Report,
) -> Run:
    folder = home.runs / run.id
    recorder = Recorder(registry.ledger, run.id, progress)
    with _recorded(registry, run):
        _write_json(folder / "config.json", settings.to_json())
        facts = _train(folder, inputs, settings, report, recorder)
        finished = registry.ledger.finish_run(run.id, facts)
        # Only a run that is not finished can go on from them.
        rmtree(folder / "checkpoints", ignore_errors=True)
    progress(Progress("done"))
    return finished


def _train(
    folder: Path, inputs: Inputs, settings: Settings, report: LintReport, progress: Report
) -> dict[str, Any]:
    """Train, check the effect of what was written, report; the lineage of the adapter."""
    from train.reporting.effect import effect_of
    from train.reporting.energy import EnergyMeter
    from train.reporting.examine import examine
    from train.reporting.report import finish_report
    from train.reporting.verdict import diverged
    from train.templates.tokens import ChatTokenizer
    from train.trainers.loading import device

    kept = fitting(inputs.dataset, report, settings.overlong)
    training, validation = _divided(kept, inputs.heldout, settings)
    heldout = inputs.heldout.rows if inputs.heldout else ()
    energy = EnergyMeter.of_device(device(), resumed=(folder / "checkpoints").exists())
    with energy:
        made = train_by_method(
            settings,
            training.rows,
            validation.rows,
            inputs.base.source,
            folder,
            heldout=heldout,
            progress=progress,
            parent=inputs.parent_folder,
        )
    if worse := diverged(made.result.history):
        hint = f"Lower learning_rate (now {settings.learning_rate:g})."
        raise TrainingError(worse, hint=hint)
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
    unseen = heldout or validation.rows
    examined = examine(model, chat, training.rows, unseen, settings.report_prompts)
    facts |= {"energy": energy.facts()}
    return finish_report(folder, facts, made.result.history, examined)


def _divided(
    dataset: DataSet, heldout: DataSet | None, settings: Settings
) -> tuple[DataSet, DataSet]:
    """What is trained on, and what is validated on."""
    if settings.validate_on_heldout and heldout is not None:
        return dataset, heldout
    return split(dataset, validation=settings.validation, key=near_key(dataset.rows))


@contextmanager
def _recorded(registry: Registry, run: Run) -> Iterator[None]:
    """Whatever ends the run before its time is written down as its reason.

    Where not even that can be written (a full disk), the error is what it was, and the run is shown
    as interrupted.
    """
    ledger = registry.ledger
    try:
        yield
    except KeyboardInterrupt as error:
        ledger.stop_run(run.id, "cancelled")
        raise RunStopped.when("cancel", run.id) from error
    except RunStopped as stop:
        ledger.stop_run(run.id, stop.stopped, step=stop.step)
        raise
    except HubError as error:
        with suppress(sqlite3.OperationalError):
            ledger.fail_run(run.id, str(error))
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        with suppress(sqlite3.OperationalError):
            ledger.fail_run(run.id, reason)
        if is_no_space(error):
            raise no_space(str(registry.home.runs / run.id), error) from error
        raise TrainingError(
            f"the run {run.id} failed: {reason}", hint="HUB_DEBUG=1 shows where."
        ) from error


def _write_json(path: Path, value: object) -> None:
    """Whole or not at all, and refusing NaN as all our JSON does."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(json.loads(canonical_json(value)), indent=2), encoding="utf-8")
    scratch.replace(path)
