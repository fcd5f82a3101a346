"""Several runs that differ in one setting; the one with the lowest validation loss is kept.

Each is a run like any other, in the ledger with the sweep's id in its config, so nothing else has
to be stored: which values are left is read from the ledger, and a sweep that was killed goes on
where it was. A run that fails (a learning rate at which the loss diverges) is one result among the
others. When all have ended, the adapters of all but the best are deleted; their reports stay.

All runs have the same rows to validate on, the split being by hash.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

from hub.errors import Conflict, TrainingError, UnknownRun
from hub.home import Home
from hub.records import Run
from hub.registry import Registry
from hub.run_state import run_state
from train.config import TrainConfig
from train.data.formats_files import kept_name
from train.planning.plan import settled
from train.progress import Progress, Report
from train.run import run_training
from train.sweepplan import Value, parse_sweep, values_around


@dataclass(frozen=True)
class Tried:
    """One value of a sweep; no loss means that its run failed, for the reason in `error`."""

    value: Value
    run: str
    validation_loss: float | None
    error: str | None


@dataclass(frozen=True)
class Outcome:
    """A finished sweep: what was tried, in the order of the values, and the best run."""

    id: str
    key: str
    tried: tuple[Tried, ...]
    best: Run


def run_sweep(
    registry: Registry, home: Home, config: TrainConfig, *, progress: Report, force: bool = False
) -> Outcome:
    """Run what `config.sweep` asks for.

    Raises:
        InvalidConfig: when one of the values can't be, before anything is run.
        TrainingError: when every run failed.
        And what `run_training` refuses before the first run begins.
    """
    assert config.sweep is not None
    asked = parse_sweep(config.sweep)
    plain = config.model_copy(update={"sweep": None})
    values = asked.values
    if values is None:
        now = settled(registry, home, plain, progress)
        values = values_around(asked.key, getattr(now, asked.key))
    for value in values:
        _with(plain, asked.key, value)
    member = {
        "id": f"sweep-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        "key": asked.key,
        "values": list(values),
        # Its runs may begin in another folder, when the sweep is resumed.
        "asked": {**plain.to_json(), "data": _kept(plain.data), "heldout": _kept(plain.heldout)},
    }
    return _go_on(registry, home, {**member, "force": force}, progress)


def _kept(sources: Sequence[Path]) -> list[str]:
    return [kept_name(source) for source in sources]


def resume_sweep(registry: Registry, home: Home, sweep: str, *, progress: Report) -> Outcome:
    """Finish a sweep: runs that were cut off or failed are resumed, values that are left are run.

    Raises:
        UnknownRun: when no run belongs to a sweep of this id.
        Conflict: when one of its runs is still going on.
        And what `run_sweep` raises.
    """
    runs = runs_of(registry, sweep)
    if not runs:
        raise UnknownRun(f"there is no sweep '{sweep}'", hint="`hub runs ls` lists the runs.")
    return _go_on(registry, home, runs[0].config["sweep"], progress)


def runs_of(registry: Registry, sweep: str) -> list[Run]:
    """The runs of a sweep, oldest first."""
    runs = registry.ledger.runs()
    return [run for run in reversed(runs) if (run.config.get("sweep") or {}).get("id") == sweep]


def _go_on(registry: Registry, home: Home, member: dict[str, Any], progress: Report) -> Outcome:
    key, values = member["key"], member["values"]
    config = TrainConfig.model_validate(member["asked"])
    shown = ", ".join(f"{value:g}" for value in values)
    progress(Progress("reading", note=f"{member['id']}: {key.replace('_', ' ')} {shown}"))
    tried = []
    for number, value in enumerate(values, start=1):
        name = f"{number} of {len(values)}, {key.replace('_', ' ')} {value:g}"
        progress(Progress("reading", note=name))
        run = _run(registry, home, _with(config, key, value), {**member, "value": value}, progress)
        tried.append(_tried(value, run))
        progress(Progress("done", note=f"{name}: {_said(tried[-1])}"))
    best = best_of(tried)
    if best is None:
        raise TrainingError(
            f"every run of {member['id']} failed; the last: {tried[-1].error}",
            hint="Try lower values, or one run without --sweep.",
        )
    for one in tried:
        if one.run != best.run:
            rmtree(home.runs / one.run / "adapter", ignore_errors=True)
            rmtree(home.runs / one.run / "model", ignore_errors=True)
    return Outcome(member["id"], key, tuple(tried), registry.ledger.run(best.run))


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The lowest validation loss; of equal ones the first."""
    losses = [(one.validation_loss, at) for at, one in enumerate(tried)
              if one.validation_loss is not None]  # fmt: skip
    return tried[min(losses)[1]] if losses else None


def _run(
    registry: Registry, home: Home, config: TrainConfig, member: dict[str, Any], progress: Report
) -> Run:
    """The run of one value: as it is if it has ended well, resumed if not, else begun."""
    runs = [
        run for run in runs_of(registry, member["id"])
        if run.config["sweep"]["value"] == member["value"]
    ]  # fmt: skip
    run = runs[-1] if runs else None
    if run is not None and run.status == "finished":
        return run
    if run is not None and run_state(run, home) == "running":
        raise Conflict(f"the run {run.id} of this sweep is still going on")
    try:
        return run_training(
            registry, home, config, progress=progress, resume=run, member=member,
            force=member.get("force", False),
        )  # fmt: skip
    except TrainingError:
        # Recorded with its reason; a value that can't be trained with is what a sweep is to find.
        failed = [one for one in runs_of(registry, member["id"])
                  if one.config["sweep"]["value"] == member["value"]]  # fmt: skip
        if not failed or failed[-1].status != "failed":
            raise
        return failed[-1]


def _tried(value: Value, run: Run) -> Tried:
    facts = run.lineage or {}
    loss = (facts.get("metrics") or {}).get("validation_loss")
    # Of a full fine-tuning that is factored, what counts is the adapter's: it is what is published.
    factored = (facts.get("factored") or {}).get("loss") or {}
    return Tried(value, run.id, factored.get("adapter", loss), run.error)


def _said(one: Tried) -> str:
    if one.validation_loss is not None:
        return f"validation loss {one.validation_loss:.4g}"
    return one.error or "no validation loss"


def _with(config: TrainConfig, key: str, value: Value) -> TrainConfig:
    """The config with one setting changed, checked as if it had been written so."""
    return TrainConfig.load(None, {**config.model_dump(mode="json"), key: value})
