"""`hub train`: data in, a published version out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.data_options import map_option
from hub.cli.output import hint, json_option, note, print_json
from hub.cli.trained import finish, finish_sweep, what_next
from hub.cli.training_bar import TrainingBar
from hub.errors import InvalidConfig, RunStopped, UsageError

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Run
    from hub.registry import Registry
    from train.config import TrainConfig

_YAML = (".yaml", ".yml")


@click.command()
@click.argument("name", required=False, metavar="[NAME | CONFIG.yaml]")
@click.option("--data", "data_", multiple=True, type=click.Path(path_type=Path),
              help="Rows to train on; can be repeated.")  # fmt: skip
@map_option
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file; flags win over it.")
@click.option("--heldout", multiple=True, type=click.Path(path_type=Path),
              help="Rows that must not be in the data; can be repeated.")  # fmt: skip
@click.option("--base", help="The base; a folder or Hub model that is new is added first.")
@click.option("--from", "continue_from", metavar="REF", help="Continue from this version.")
@click.option("--method", type=click.Choice(["sft", "dpo", "kto", "full"]),
              help="From answers, pairs (dpo) or labels (kto); full trains the base.")  # fmt: skip
@click.option("--beta", type=float, help="How hard dpo and kto hold on to their reference.")
@click.option("--as", "publish_as", type=click.Choice(["adapter", "base"]),
              help="What full publishes: its difference, factored, or a base.")  # fmt: skip
@click.option("--name", "new_base", metavar="BASE", help="What --as base calls it; default: NAME.")
@click.option("--sweep", metavar="KEY[=A,B,C]",
              help="Try values of one setting (lr, rank, …) and publish the best.")  # fmt: skip
@click.option("--preset", type=click.Choice(["auto", "style", "task", "knowledge", "tiny"]))
@click.option("--rank", type=int)
@click.option("--alpha", type=float)
@click.option("--learning-rate", "--lr", type=float)
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--max-length", type=int, help="Tokens that a row may have.")
@click.option("--overlong", type=click.Choice(["error", "drop", "truncate"]),
              help="Longer rows refuse the data (the default), are left out, or cut.")  # fmt: skip
@click.option("--validation", type=float, help="The share of rows kept to validate on.")
@click.option("--quantize", type=click.Choice(["nf4"]), help="QLoRA: the base in 4 bits.")
@click.option("--rslora", is_flag=True, default=None, help="Scale by the root of the rank.")
@click.option("--seed", type=int)
@click.option("--processes", type=int, help="Train on so many devices, by `accelerate launch`.")
@click.option("--launch", metavar="ARGS", help="More arguments for `accelerate launch`.")
@click.option("--no-publish", "publish", flag_value=False, type=bool, default=None,
              help="Stop before publishing; `hub publish` does it.")  # fmt: skip
@click.option("--resume", "go_on", is_flag=True,
              help="Go on with NAME's newest run if it ended badly; else begin one.")  # fmt: skip
@click.option("--force", is_flag=True, help="Begin even if the memory would not do.")
@click.option(
    "--dry-run", is_flag=True, help="All that comes before the first step; writes nothing."
)
@click.option("--print-config", is_flag=True, help="Print every setting as YAML, and end.")
@json_option
def train(
    name: str | None,
    config: Path | None,
    go_on: bool,
    force: bool,
    dry_run: bool,
    print_config: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train adapter NAME and publish it as its next version.

    The data is linted first: errors refuse the run before anything is loaded. What is not set
    follows from a preset chosen by the base's size and the number of rows. Every setting can stand
    in a YAML file: `hub train --print-config` prints one.
    """
    from hub.home import Home
    from hub.registry import Registry

    if name is not None and name.endswith(_YAML) and config is None:
        config, name = Path(name), None
    overrides = {"adapter": name, **settings}
    overrides["data"] = overrides.pop("data_") or None
    overrides["heldout"] = overrides["heldout"] or None
    if print_config and not (config or overrides["data"]):
        _print_defaults(overrides)
        return
    if name is None and config is None:
        raise UsageError(
            "hub train needs an adapter's name or a config",
            hint="`hub train NAME --data FILE`, or `hub train CONFIG.yaml`.",
        )
    home = Home.from_environment().require()
    with Registry.open(home) as registry:
        asked = _asked(registry, config, overrides)
        if print_config:
            _print_settled(registry, home, asked)
        elif dry_run:
            from hub.cli.dry_run import show_dry_run

            show_dry_run(registry, home, asked, as_json=as_json)
        else:
            if go_on and (run := _left(registry, asked)) is not None:
                hint(f"going on with the run {run.id}")
                resume_run(registry, home, run, as_json=as_json)
                return
            with _stoppable(as_json):
                _train(registry, home, asked, force=force, as_json=as_json)


def _asked(registry: "Registry", config: Path | None, overrides: dict[str, Any]) -> "TrainConfig":
    """The config, with everything that is wrong with it in one error."""
    from train.config import TrainConfig, read_yaml
    from train.notthere import not_there

    raw = read_yaml(config) if config is not None else {}
    raw |= {key: value for key, value in overrides.items() if value is not None}
    problems = TrainConfig.problems(raw)
    missing = not_there(raw, [base.name for base in registry.bases.all()])
    # One thing that is missing, and nothing else, is told by whoever looks for it, and better.
    if problems or len(missing) > 1:
        raise InvalidConfig([*problems, *missing], where=str(config) if config else None)
    return TrainConfig.model_validate(raw)  # the file is read once: it may be a pipe


def _left(registry: "Registry", asked: "TrainConfig") -> "Run | None":
    """The adapter's newest run, where something of it is left to do.

    Raises:
        UsageError: when it was begun with other settings than those that are written now.
    """
    from hub.cli.run_events import is_done
    from train.again import differing

    run = next(iter(registry.ledger.runs(asked.adapter)), None)
    if run is None or is_done(registry, run):
        return None
    if lines := differing(run, asked):
        listed = "".join(f"\n  - {line}" for line in lines)
        raise UsageError(
            f"the run {run.id}, which did not end well, began otherwise:{listed}",
            hint=f"`hub runs resume {run.id}` goes on with it as it is; without --resume "
            "a new run begins.",
        )
    return run


def _train(
    registry: "Registry", home: "Home", asked: "TrainConfig", *, force: bool, as_json: bool
) -> None:
    from hub.cli.base import find_or_add_base

    if asked.base is not None:
        base = find_or_add_base(registry, asked.base)
        asked = asked.model_copy(update={"base": base.name})
    if asked.sweep is not None:
        from train.sweep import run_sweep

        with TrainingBar() as show:
            outcome = run_sweep(registry, home, asked, progress=show, force=force)
        finish_sweep(registry, home, outcome, as_json=as_json)
        return
    from train.run import run_training

    with TrainingBar() as show:
        run = run_training(registry, home, asked, progress=show, force=force)
    finish(registry, home, run, as_json=as_json)


def _print_defaults(overrides: dict[str, Any]) -> None:
    from train.config import TrainConfig
    from train.configtext import asked_yaml

    given = {key: value for key, value in overrides.items() if value is not None}
    if problems := TrainConfig.problems({"adapter": "any", "data": "any", **given}):
        raise InvalidConfig(problems)
    click.echo(asked_yaml(given), nl=False)


def _print_settled(registry: "Registry", home: "Home", asked: "TrainConfig") -> None:
    from train.configtext import asked_yaml, settled_yaml
    from train.planning.plan import settled

    if asked.sweep is not None:  # each of its runs has settings of its own
        click.echo(asked_yaml(asked.to_json()), nl=False)
        return
    with TrainingBar() as show:
        settings = settled(registry, home, asked, show)
    click.echo(settled_yaml(settings), nl=False)


def resume_sweep(registry: "Registry", home: "Home", sweep: str, *, as_json: bool) -> None:
    """Finish a sweep that was killed or had runs that failed, and publish its best."""
    from train.sweep import resume_sweep as resume_sweep_

    with _stoppable(as_json):
        with TrainingBar() as show:
            outcome = resume_sweep_(registry, home, sweep, progress=show)
        finish_sweep(registry, home, outcome, as_json=as_json)


def resume_run(registry: "Registry", home: "Home", run: "Run", *, as_json: bool) -> None:
    """Continue a run that did not end by itself, from its last checkpoint, and publish it."""
    from hub.cli.run_events import is_published
    from train.config import TrainConfig
    from train.run import run_training

    if sweep := (run.config.get("sweep") or {}).get("id"):
        resume_sweep(registry, home, sweep, as_json=as_json)
        return
    if run.status == "finished":
        # Its process died between its end and its publication, or within that.
        if run.config.get("publish", True) and not is_published(registry, run):
            finish(registry, home, run, as_json=as_json)
            return
        raise UsageError(
            f"the run {run.id} is finished",
            hint=what_next(registry, home, run),
        )
    # The rest of what the run was told is in its own record.
    kept = ("adapter", "data", "heldout", "columns", "base", "method", "continue_from",
            "quantize", "seed", "overlong", "validate_on_heldout")  # fmt: skip
    asked = TrainConfig.load(None, {key: run.config[key] for key in kept if key in run.config})
    with _stoppable(as_json):
        with TrainingBar() as show:
            run = run_training(registry, home, asked, progress=show, resume=run)
        finish(registry, home, run, as_json=as_json)


@contextmanager
def _stoppable(as_json: bool) -> Iterator[None]:
    """A run that ends because somebody wanted it is no error, and still not done."""
    try:
        yield
    except RunStopped as stop:
        note(stop.message)
        hint(stop.hint or "")
        if as_json:
            print_json({"run": stop.run, "state": stop.stopped, "step": stop.step})
        raise click.exceptions.Exit(stop.exit_code) from stop
