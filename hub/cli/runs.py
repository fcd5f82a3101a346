"""`hub runs`: training runs, finished and not."""

from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, print_json, print_table
from hub.errors import Conflict

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Run
    from hub.registry import Registry

_SWEEP = "sweep-"
_EVENTS_SHOWN = 10


@click.group()
def runs() -> None:
    """List, show, watch, cancel and resume training runs."""


@runs.command("ls")
@click.argument("name", required=False)
@json_option
def list_runs(name: str | None, as_json: bool) -> None:
    """List runs (of adapter NAME), newest first."""
    from hub.home import Home
    from hub.registry import Registry
    from hub.run_state import run_state

    home = Home.from_environment()
    with Registry.open(home) as registry:
        found = registry.ledger.runs(name)
    if as_json:
        print_json([{"state": run_state(run, home), **_plain(run)} for run in found])
    elif found:
        rows = [
            [r.id, r.adapter, r.method, run_state(r, home), r.started_at[:16].replace("T", " ")]
            for r in found
        ]
        print_table(["run", "adapter", "method", "state", "started (UTC)"], rows)
    else:
        hint("No runs yet. Run `hub train NAME --data FILE`.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """Show what a run was told, how it went and where its report is."""
    from hub.cli.run_report import print_report, report_files
    from hub.home import Home
    from hub.registry import Registry
    from hub.run_state import RESUMABLE, run_state

    home = Home.from_environment()
    with Registry.open(home) as registry:
        run = registry.ledger.run(run_id)
        events = registry.ledger.events(run_id)
    folder, state = home.runs / run.id, run_state(run, home)
    if as_json:
        facts = {"state": state, "folder": str(folder), **_plain(run), "events": events}
        print_json({**facts, "report": report_files(folder)})
        return
    from hub.cli.run_events import event_line

    click.secho(f"{run.id}  {run.adapter}  {state}", bold=True)
    click.echo(f"  base     {run.base}")
    click.echo(f"  started  {run.started_at}")
    click.echo(f"  ended    {run.finished_at or '-'}")
    if sweep := run.config.get("sweep"):
        click.echo(f"  sweep    {sweep['id']} ({sweep['key']} {sweep['value']:g})")
    if run.error:
        click.echo(f"  error    {run.error}")
    if (folder / "report.html").is_file():
        click.echo(f"  report   {folder / 'report.html'}")
    for event in events[-_EVENTS_SHOWN:]:
        click.echo(f"  {event_line(event)}")
    print_report(run.lineage or {}, folder)
    if state in RESUMABLE:
        hint(f"`hub runs resume {run.id}` goes on from its last checkpoint.")
    elif state == "running":
        hint(f"`hub runs watch {run.id}` follows it; `hub runs cancel {run.id}` ends it.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def watch(run_id: str, as_json: bool) -> None:
    """Follow a run that goes on in another process, until it ends.

    The exit status is the run's: 0 finished, 1 failed or interrupted, 130 cancelled or paused. With
    --json each event is a line of JSON.
    """
    from hub.cli.run_events import follow, status_of
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    with Registry.open(home) as registry:
        state = follow(registry, home, registry.ledger.run(run_id).id, as_json=as_json)
    if state == "interrupted":
        hint(f"Its process is gone. `hub runs resume {run_id}` goes on from its last checkpoint.")
    raise click.exceptions.Exit(status_of(state))


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def cancel(run_id: str, as_json: bool) -> None:
    """End a run with its next step and a checkpoint; `hub runs resume` goes on with it.

    RUN may be a sweep's id: the run of it that goes on is ended, and no other begins.
    """
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    with Registry.open(home) as registry:
        run = _to_cancel(registry, home, run_id)
        state = _cancel(registry, home, run)
    if as_json:
        print_json({"run": run.id, "state": state})
    else:
        click.echo(f"{run.id}  {state}")
        if state != "finished":
            hint(f"`hub runs resume {run.id}` goes on with it.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def resume(run_id: str, as_json: bool) -> None:
    """Go on with a run from its last checkpoint, and publish it if it was to be published.

    RUN may be a sweep's id: its runs that were cut off and those that are left follow.
    """
    from hub.cli.train import resume_run, resume_sweep
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    with Registry.open(home) as registry:
        if run_id.startswith(_SWEEP):
            resume_sweep(registry, home, run_id, as_json=as_json)
            return
        resume_run(registry, home, registry.ledger.run(run_id), as_json=as_json)


def _to_cancel(registry: "Registry", home: "Home", run_id: str) -> "Run":
    """The run itself, or the one of a sweep that is not at its end.

    Raises:
        UnknownRun: when there is none.
        Conflict: when it has ended.
    """
    from hub.run_state import run_state

    if run_id.startswith(_SWEEP):
        members = [
            run for run in registry.ledger.runs()
            if (run.config.get("sweep") or {}).get("id") == run_id
            and run_state(run, home) in ("running", "interrupted")
        ]  # fmt: skip
        if not members:
            raise Conflict(f"no run of '{run_id}' is going on", hint="`hub runs ls` lists them.")
        return members[0]
    run = registry.ledger.run(run_id)
    if (state := run_state(run, home)) not in ("running", "interrupted"):
        raise Conflict(f"the run {run.id} is {state}, so there is nothing to cancel")
    return run


def _cancel(registry: "Registry", home: "Home", run: "Run") -> str:
    """Ask for the end and wait for it; of a run without a process, write it down."""
    import time

    from hub.run_state import locked, run_state

    if run_state(run, home) == "interrupted":
        with locked(home.runs / run.id):
            return registry.ledger.stop_run(run.id, "cancelled").status
    registry.ledger.want(run.id, "cancel")
    hint("waiting for its step to end; Ctrl-C stops waiting, not the cancelling")
    while (state := run_state(registry.ledger.run(run.id), home)) == "running":
        time.sleep(0.2)
    return state


def _plain(run: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(run)  # type: ignore[call-overload,no-any-return]
