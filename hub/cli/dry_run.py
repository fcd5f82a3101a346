"""`hub train --dry-run`: data, lint, tokens, settings and an estimate; nothing is written."""

from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, print_json
from hub.cli.training_bar import duration
from hub.errors import InvalidConfig

if TYPE_CHECKING:
    from hub.home import Home
    from hub.registry import Registry
    from train.config import TrainConfig
    from train.planning.plan import Plan


def show_dry_run(
    registry: "Registry", home: "Home", asked: "TrainConfig", *, as_json: bool
) -> None:
    """Print what a run would do, up to its first step; of a sweep what it is around.

    Raises:
        InvalidConfig: when it would be refused for its memory, after all else is told.
        And what `train.run.run_training` refuses.
    """
    from train.config import TrainConfig
    from train.planning.plan import planned

    if asked.sweep is not None:
        asked = TrainConfig.load(None, {**asked.model_dump(mode="json"), "sweep": None})
    _refuse_new_base(registry, asked.base)
    plan = planned(registry, home, asked, lambda progress: None)
    if plan.preflight.fits and plan.preflight.seconds is None:
        plan = _timed(plan)
    if as_json:
        print_json(_facts(plan))
    else:
        _print(plan)
    plan.preflight.require()


def _refuse_new_base(registry: "Registry", base: str | None) -> None:
    known = {one.name for one in registry.bases.all()}
    if base is not None and base not in known:
        raise InvalidConfig(
            [f"base: '{base}' is not in this hub, and a dry run adds nothing to it:"
             f" `hub base add {base}` first"]
        )  # fmt: skip


def _timed(plan: "Plan") -> "Plan":
    from dataclasses import replace

    from train.planning.timing import tokens_per_second

    pace = tokens_per_second(plan.settings, plan.base.source, plan.dataset.rows, plan.parent_folder)
    taken = plan.preflight.timed(pace, "a step that was timed just now")
    return replace(plan, preflight=taken)


def _facts(plan: "Plan") -> dict[str, object]:
    return {
        "dataset": {
            "name": plan.dataset.name,
            "digest": plan.dataset.digest,
            "format": plan.dataset.format,
            "rows": len(plan.dataset),
        },
        "lint": plan.lint.to_json(),
        "settings": plan.settings.to_json(),
        "estimate": plan.preflight.to_json(),
    }


def _print(plan: "Plan") -> None:
    settings, taken = plan.settings, plan.preflight
    click.echo(f"data      {plan.dataset.source}: {plan.lint.summary}")
    for finding in plan.lint.findings:
        click.echo(f"          {finding.severity} {finding}")
    if plan.lint.tokens is not None:
        for at, line in enumerate(plan.lint.tokens.lines()):
            click.echo(f"{'' if at else 'tokens':<10}{line}")
    click.echo(f"base      {settings.base}")
    from train.presets import explained

    click.echo(f"settings  {settings.method}, {explained(settings)}")
    click.echo("          every one: `hub train --print-config` with the same arguments")
    click.echo(
        f"steps     {taken.steps:,}; {taken.tokens:,} tokens to read in {settings.epochs} epochs"
    )
    for line in taken.lines():
        kind, _, rest = line.partition(": ")
        click.echo(f"{kind:<10}{rest}" if kind == "memory" else f"          {line}")
    if taken.seconds is not None:
        click.echo(f"time      about {duration(taken.seconds)}, by {taken.timed_by}")
    hint("Nothing was written. Without --dry-run it begins.")
