"""What a training made, said and published: `hub train` and `hub runs resume` end here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint, note, print_json, print_table
from hub.errors import Conflict

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Base, Run
    from hub.registry import Registry
    from train.sweep import Outcome

_INTERRUPTED = 130


def finish(
    registry: "Registry",
    home: "Home",
    run: "Run",
    *,
    as_json: bool,
    more: dict[str, Any] | None = None,
) -> None:
    """Say what a run made, and publish it unless it was told not to; `more` goes into the JSON."""
    from hub.cli.effect import ModelEffect
    from hub.cli.versions import publish_run, report_published
    from hub.local import LocalHub
    from train.reporting.told import warned

    lineage = run.lineage or {}
    metrics = lineage.get("metrics", {})
    own: dict[str, Any] = {
        key: lineage[key] for key in ("preference", "factored") if key in lineage
    }
    report = str(home.runs / run.id / "report.html")
    facts: dict[str, Any] = {"run": run.id, "metrics": metrics, **own, "report": report}
    facts |= more or {}
    no_publish = not run.config.get("publish", True)
    loss = metrics.get("validation_loss")
    validated = "" if loss is None else f", validation loss {loss:.3f}"
    note(f"trained in {metrics.get('seconds', 0):.0f} s{validated}")
    for line in warned(lineage):
        note(f"warning: {line}")
    hint(f"report: {report}")
    if run.config.get("publish_as") == "base":
        _finish_base(registry, home, run, no_publish=no_publish, as_json=as_json, facts=facts)
    elif not no_publish:
        here = LocalHub(home, registry, ModelEffect())
        with _publishing(run, as_json):
            published = publish_run(here, here, run)
        report_published(published, as_json, facts)
    elif as_json:
        print_json(facts)
    else:
        click.echo(f"run {run.id}")
        hint(what_next(registry, home, run))


def what_next(registry: "Registry", home: "Home", run: "Run") -> str:
    """What has become of a finished run, or what is left to do with it."""
    for event in registry.ledger.events(run.id):
        if event.kind == "published":
            name = event.data.get("version") or event.data["base"]
            return f"It is published: {name}."
    if run.config.get("publish_as") == "base":
        folder, name = home.runs / run.id / "model", run.config["new_base"]
        return f"Next: `hub base add {folder} --name {name}`."
    return f"Next: `hub publish {run.adapter} {run.id}`."


@contextmanager
def _publishing(run: "Run", as_json: bool) -> Iterator[None]:
    """Ctrl-C in it leaves a finished run that is published or not, and never a half of it."""
    try:
        yield
    except KeyboardInterrupt as error:
        note(f"interrupted while the run {run.id} was being published; its training is finished")
        hint(f"`hub runs resume {run.id}` publishes it, if it was not.")
        if as_json:
            print_json({"run": run.id, "state": "finished"})
        raise click.exceptions.Exit(_INTERRUPTED) from error


def finish_sweep(registry: "Registry", home: "Home", outcome: "Outcome", *, as_json: bool) -> None:
    """Show what was tried, and publish the best."""
    title = outcome.key.replace("_", " ")
    if not as_json:
        rows = [
            [
                f"{one.value:g}",
                "failed" if one.validation_loss is None else f"{one.validation_loss:.4g}",
                one.run,
                "best" if one.run == outcome.best.id else one.error or "",
            ]
            for one in outcome.tried
        ]
        print_table([f"{title}>", "validation loss>", "run", ""], rows)
    more = {"sweep": {"id": outcome.id, "key": outcome.key, "tried": outcome.tried}}
    finish(registry, home, outcome.best, as_json=as_json, more=more)


def register_base(registry: "Registry", home: "Home", run: "Run") -> "Base":
    """Put the model that a run made among the hub's bases; doing it again changes nothing.

    Raises:
        Conflict: when another base has its name.
        BaseError: when the model is not there any more.
    """
    from hub.cli.base import add_base

    name = run.config["new_base"]
    made, folder = home.runs / run.id / "model", home.bases / name
    if made.is_dir():
        if folder.exists():
            raise Conflict(
                f"there is a base in the way of '{name}'",
                where=str(folder),
                hint=f"Keep this one under another name: `hub base add {made} --name OTHER`.",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
    return add_base(registry, str(folder), name=name)


def _finish_base(
    registry: "Registry",
    home: "Home",
    run: "Run",
    *,
    no_publish: bool,
    as_json: bool,
    facts: dict[str, Any],
) -> None:
    if no_publish:
        folder = home.runs / run.id / "model"
        if as_json:
            print_json({**facts, "model": str(folder)})
            return
        click.echo(f"run {run.id}")
        hint(what_next(registry, home, run))
        return
    with _publishing(run, as_json):
        base = register_base(registry, home, run)
        registry.ledger.add_event(run.id, "published", {"base": base.name})
    if as_json:
        print_json({**facts, "base": base.name, "digest": base.digest, "source": base.source})
        return
    click.echo(f"base {base.name}  {base.digest[:12]}  {base.source}")
    hint(f"Next: `hub serve --base {base.name}`, or `hub train NAME --base {base.name} …`.")
