"""One fine-tuning job in a process of its own: `python -m hub.cli.job_process check|train JOB`.

`check` reads the files and applies the lint's rules that need no tokens, so that a bad file is
known at once, also while another job trains. `train` trains, publishes, and keeps what was
measured as a file. Both leave the outcome in the job's row.

Started by `hub.cli.job_worker`, whose end is seen as the end of standard input: then this process
ends at once too, as if it had been killed, and the next worker goes on from the last checkpoint.
"""

import csv
import io
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import HubError, InvalidConfig, InvalidData, RunStopped
from hub.home import Home
from hub.jobs import Job
from hub.registry import Registry
from hub.who import acting_for

if TYPE_CHECKING:
    from hub.records import Run
    from train.config import TrainConfig
    from train.linting.findings import LintReport
    from train.progress import Progress, Wanted

_METHODS = {"supervised": "sft", "dpo": "dpo"}
# OpenAI's names of what a config has under its own; the rate is in `_rated`.
_SETTINGS = {"n_epochs": "epochs", "batch_size": "batch_size", "beta": "beta"}
_LOOK_S = 1.0
_SHOWN_FINDINGS = 5
RESULTS = "step_metrics.csv"


def main(what: str, name: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    home = Home.from_environment()
    with Registry.open(home) as registry:
        job = registry.jobs.get(name)
        try:
            if what == "check":
                _check(registry, job)
            else:
                with acting_for(job.created_by):
                    _train(registry, home, job)
        except RunStopped:
            return  # whoever wanted it has written that into the job's row
        except HubError as error:
            registry.queue.failed(job, *_told(registry, home, job, error))
        except Exception as error:  # a bug of ours, or of a library: the job must not hang
            traceback.print_exc()
            registry.queue.failed(job, "internal_error", f"{type(error).__name__}: {error}", None)


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock could not be had when this process ends by itself.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _check(registry: Registry, job: Job) -> None:
    from train.data.formats import read_dataset
    from train.linting.lint import lint
    from train.trainers.methods import require_fit

    config = _config(registry, job)
    dataset = read_dataset(config.data)
    require_fit(dataset, config.method)
    heldout = None
    if config.heldout:
        heldout = read_dataset(config.heldout)
        require_fit(heldout, config.method)
        _require_good(lint(heldout, ignore=("too-few-rows",)), config.heldout[0])
    _require_good(lint(dataset, heldout=heldout), config.data[0])
    registry.queue.validated(job)


def _require_good(report: "LintReport", file: Path) -> None:
    """Raises InvalidData for the lint's errors."""
    if not report.ok:
        raise InvalidData(
            "; ".join(str(finding) for finding in report.errors[:_SHOWN_FINDINGS]), where=str(file)
        )


def _train(registry: Registry, home: Home, job: Job) -> None:
    from hub.cli.effect import ModelEffect
    from hub.cli.versions import publish_run
    from hub.local import LocalHub
    from hub.names import parse_adapter_reference
    from train.reporting.told import warned

    run = _run(registry, home, job)
    if not registry.queue.may_publish(job):
        return
    here = LocalHub(home, registry, ModelEffect())
    published = publish_run(here, here, run)
    version = registry.resolve(parse_adapter_reference(published.version))
    lineage = run.lineage or {}
    metrics = lineage["metrics"]
    with registry.writing():
        for line in warned(lineage):
            registry.queue.say(job, line, "warn")
        results = registry.files.add(
            io.BytesIO(_results(home, run)),
            RESULTS,
            "fine-tune-results",
            namespaces=None if job.namespace is None else [job.namespace],
        )
        registry.queue.succeeded(
            job,
            version,
            run=run.id,
            step=int(metrics["best_step"]),
            tokens=int(metrics["tokens"]),
            result_file=results.id,
        )


def _run(registry: Registry, home: Home, job: Job) -> "Run":
    """The finished run of a job: a new one, or the one that was begun."""
    from train.run import run_training

    config = _config(registry, job)
    progress = _Watch(registry, job)
    if job.run is None:
        config = _rated(registry, home, job, config)
        return run_training(registry, home, config, progress=progress)
    run = registry.ledger.run(job.run)
    if run.status == "finished":
        return run
    return run_training(registry, home, config, progress=progress, resume=run)


def _config(registry: Registry, job: Job) -> "TrainConfig":
    from train.config import TrainConfig

    training = registry.files.path(registry.files.get(job.training_file))
    given: dict[str, Any] = {
        name: job.hyperparameters[key]
        for key, name in _SETTINGS.items()
        if job.hyperparameters.get(key, "auto") != "auto"
    }
    if job.validation_file is not None:
        given["heldout"] = [registry.files.path(registry.files.get(job.validation_file))]
        given["validate_on_heldout"] = True
    return TrainConfig.load(
        None,
        {
            "adapter": job.adapter,
            "data": [training],
            "base": job.base,
            "method": _METHODS[job.method],
            "continue_from": job.continue_from,
            "seed": job.seed,
            **given,
        },
    )


def _rated(registry: Registry, home: Home, job: Job, config: "TrainConfig") -> "TrainConfig":
    """The config with the preset's learning rate times what was asked for."""
    from train.config import TrainConfig
    from train.planning.plan import settled

    times = job.hyperparameters.get("learning_rate_multiplier", "auto")
    if times == "auto":
        return config
    rate = settled(registry, home, config, _Watch(registry, job)).learning_rate
    if rate * times > 1:
        problem = f"{times:g} times {rate:g} is a learning rate of {rate * times:g}"
        raise InvalidConfig([f"learning_rate_multiplier: {problem}, and 1 is the most"])
    return TrainConfig.load(None, {**config.model_dump(), "learning_rate": rate * times})


class _Watch:
    """Tells a training, about once a second, what is wanted of its job."""

    def __init__(self, registry: Registry, job: Job) -> None:
        self._registry = registry
        self._job = job
        self._looked = float("-inf")

    def __call__(self, progress: "Progress") -> "Wanted | None":
        """Raises RunStopped when something is wanted before there is anything to keep."""
        if progress.note is not None:
            print(progress.note, file=sys.stderr)
        if time.monotonic() - self._looked < _LOOK_S:
            return None
        self._looked = time.monotonic()
        status = self._registry.queue.look(self._job).status
        if status == "running":
            return None
        wanted: Wanted = "cancel" if status == "cancelled" else "pause"
        if progress.phase not in ("training", "done"):
            raise RunStopped.when(wanted, self._job.id)
        return wanted


def _results(home: Home, run: "Run") -> bytes:
    """What was measured, a line a step: of OpenAI's columns those that are known here."""
    points = json.loads((home.runs / run.id / "history.json").read_text(encoding="utf-8"))
    lines: dict[int, dict[str, float]] = {}
    for point in points:
        line = lines.setdefault(point["step"], {"step": point["step"]})
        for key, column in (("loss", "train_loss"), ("validation_loss", "valid_loss")):
            if point[key] is not None:
                line[column] = point[key]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", "train_loss", "valid_loss"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines[step] for step in sorted(lines))
    return text.getvalue().encode()


def _told(registry: Registry, home: Home, job: Job, error: HubError) -> tuple[str, str, str | None]:
    """Code, message and param of a job's error: files by the names that their sender gave."""
    hint = _without_options(error.hint or "")
    text = f"{error}. {hint}" if hint else str(error)
    if isinstance(error, InvalidConfig):
        text = "; ".join(problem for problem in error.problems if "--" not in problem)
    param = None
    for key, name in (
        ("validation_file", job.validation_file),
        ("training_file", job.training_file),
    ):
        folder = home.files / (name or "-")
        if f"{folder}/" in text:
            text, param = text.replace(f"{folder}/", ""), key
    text = text.replace(f"{home.root}/", "")
    if isinstance(error, InvalidData):
        param = param or _named(registry, job, error) or "training_file"
        return f"invalid_{param}", text, param
    if isinstance(error, InvalidConfig):
        return "invalid_hyperparameters", text, "hyperparameters"
    return error.code or "training_failed", text, param


def _without_options(hint: str) -> str:
    """Sentences without those that name a command's options: a client of the API has none."""
    return " ".join(one for one in re.split(r"(?<=\.) ", hint) if "--" not in one)


def _named(registry: Registry, job: Job, error: HubError) -> str | None:
    """Whose rows the training's own lint speaks of: it calls a file by its name without ending."""
    stems = {}
    for key, name in (
        ("training_file", job.training_file),
        ("validation_file", job.validation_file),
    ):
        if name is not None:
            stems[registry.files.path(registry.files.get(name)).stem] = key
    return stems.get(error.where or "") if len(stems) == 2 else None


if __name__ == "__main__":
    main(*sys.argv[1:])
