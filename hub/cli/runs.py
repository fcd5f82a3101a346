"""`hub runs`: training runs, finished and not."""

import click

from hub.cli.output import hint, json_option, print_json, print_table


@click.group()
def runs() -> None:
    """List, show and resume training runs."""


@runs.command("ls")
@click.argument("name", required=False)
@json_option
def list_runs(name: str | None, as_json: bool) -> None:
    """List runs (of adapter NAME), newest first."""
    from hub.home import Home
    from hub.registry import Registry
    from train.run_state import run_state

    with Registry.open(Home.from_environment()) as registry:
        found = registry.ledger.runs(name)
    if as_json:
        print_json([{"state": run_state(run), **_plain(run)} for run in found])
    elif found:
        rows = [
            [r.id, r.adapter, r.method, run_state(r), r.started_at[:16].replace("T", " ")]
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
    from hub.home import Home
    from hub.registry import Registry
    from train.run_state import run_state

    home = Home.from_environment()
    with Registry.open(home) as registry:
        run = registry.ledger.run(run_id)
    folder = home.runs / run.id
    if as_json:
        print_json({"state": run_state(run), "folder": str(folder), **_plain(run)})
        return
    click.secho(f"{run.id}  {run.adapter}  {run_state(run)}", bold=True)
    click.echo(f"  base     {run.base}")
    click.echo(f"  started  {run.started_at}")
    click.echo(f"  ended    {run.finished_at or '-'}")
    if sweep := run.config.get("sweep"):
        click.echo(f"  sweep    {sweep['id']} ({sweep['key']} {sweep['value']:g})")
    if run.error:
        click.echo(f"  error    {run.error}")
    for name, value in ((run.lineage or {}).get("metrics") or {}).items():
        click.echo(f"  {name:<16} {value}")
    if (folder / "report.html").is_file():
        click.echo(f"  report   {folder / 'report.html'}")
    if run_state(run) in ("interrupted", "failed"):
        hint(f"`hub runs resume {run.id}` goes on from its last checkpoint.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def resume(run_id: str, as_json: bool) -> None:
    """Go on with a run that was killed or failed, from its last checkpoint, and publish it.

    RUN may be a sweep's id: its runs that were cut off and those that are left follow.
    """
    from hub.cli.train import resume_run, resume_sweep
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    with Registry.open(home) as registry:
        if run_id.startswith("sweep-"):
            resume_sweep(registry, home, run_id, as_json=as_json)
            return
        resume_run(registry, home, registry.ledger.run(run_id), as_json=as_json)


def _plain(run: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(run)  # type: ignore[call-overload,no-any-return]
