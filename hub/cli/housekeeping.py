"""`hub rm|gc|backup|restore|doctor`: what keeps a hub small, safe and whole."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json, print_table, size
from hub.cli.where import hub_option, open_here, open_hub
from hub.errors import HubError, NoHome, UsageError

if TYPE_CHECKING:
    from hub.facts import Finding, Swept


@click.command()
@click.argument("reference")
@click.option("--adapter", "whole", is_flag=True, help="The whole adapter of that name.")
@click.option("--why", default="", help="With --adapter: the reason, kept in the history.")
@hub_option
@json_option
def rm(reference: str, whole: bool, why: str, hub_url: str | None, as_json: bool) -> None:
    """Delete a version that no alias names, or with --adapter an adapter with all that it has.

    Its number is never used again, and the history stays. `hub gc` frees the space.
    """
    if why and not whole:
        raise UsageError(
            "--why goes with --adapter", hint="A version alone moves no alias: nothing is kept."
        )
    with open_hub(hub_url) as hub:
        removed = hub.remove(reference, whole_adapter=whole, why=why)
    if as_json:
        print_json(removed)
        return
    for version in removed.versions:
        click.echo(f"removed {version}")
    if removed.size:
        hint(f"`hub gc` frees {size(removed.size)}.")
    else:
        hint("Other versions need the same files, so nothing is freed.")


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option(
    "--keep-days",
    type=float,
    default=30,
    show_default=True,
    metavar="N",
    help="Keep what an alias named, or what was published, in the last N days.",
)
@hub_option
@json_option
def gc(dry_run: bool, keep_days: float, hub_url: str | None, as_json: bool) -> None:
    """Delete the versions that nothing reaches, and free what no version needs.

    A version stays when an alias names it or named it in the last days, when it was published in
    that time, when a running gateway uses it, or when a version that stays descends from it.
    """
    with open_hub(hub_url) as hub:
        swept = hub.gc(keep_days=keep_days, dry_run=dry_run)
    if as_json:
        print_json(swept)
    else:
        _report_swept(swept, keep_days)


def _report_swept(swept: "Swept", keep_days: float) -> None:
    if swept.versions:
        rows = [[entry.version, size(entry.size), entry.why] for entry in swept.versions]
        print_table(["version", "size>", "why it may go"], rows)
    gone = f"{_count(len(swept.versions), 'version')}, {_count(swept.files, 'file')}"
    verb = "would go" if swept.dry_run else "gone"
    click.echo(f"{verb}: {gone}, {size(swept.size)}")
    for reason, count in swept.kept.items():
        note(f"kept: {count:>4}  {reason.replace('that time', f'the last {keep_days:g} days')}")
    if swept.dry_run and (swept.versions or swept.files):
        hint("`hub gc` without --dry-run does it.")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--no-interactions", is_flag=True, help="Leave the log of requests out.")
@json_option
def backup(file: Path, no_interactions: bool, as_json: bool) -> None:
    """Write the registry with all its files into FILE, a .tar (or .tar.gz), while it is in use.

    Runs, engine logs and bases that were not built here are not in it.
    """
    from hub.backup import write_backup

    with open_here() as here:
        index = write_backup(here.registry, here.store, file, interactions=not no_interactions)
    if as_json:
        print_json(index)
        return
    counts = ", ".join(_count(number, what) for what, number in index.counts.items())
    click.echo(f"{file}  {size(file.stat().st_size)}  {counts}")
    for name, folder in index.elsewhere.items():
        note(f"not in it: the base '{name}', which was not built here ({folder})")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the registry that is here.")
@json_option
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Make this hub what it was when `hub backup` wrote FILE.

    Everything in FILE is checked before anything changes. A registry that is here is replaced only
    with --force, under running servers too, and saved beside first.
    """
    from hub.home import Home
    from hub.restore import restore as restore_

    restored = restore_(Home.from_environment(), file, force=force)
    if as_json:
        print_json(restored)
        return
    counts = ", ".join(_count(number, what) for what, number in restored.counts.items())
    click.echo(f"restored what {file} held at {restored.made_at}: {counts}")
    if restored.saved:
        note(f"what was here before is saved in {restored.saved}")
    hint("`hub doctor` checks every invariant.")


@click.command()
@click.option("--quick", is_flag=True, help="Compare files by size, without reading them.")
@hub_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, quick: bool, hub_url: str | None, as_json: bool) -> None:
    """Check every invariant of the hub, and say how to mend what is broken (then it exits 1)."""
    try:
        with open_hub(hub_url) as hub:
            findings = hub.doctor(quick=quick)
    except NoHome:
        raise
    except HubError as error:
        if hub_url is not None:
            raise
        findings = [_cannot_open(error)]
    if as_json:
        print_json(findings)
    else:
        _report_findings(findings)
    if any(finding.state == "broken" for finding in findings):
        ctx.exit(1)


def _cannot_open(error: HubError) -> "Finding":
    from hub.facts import Finding

    return Finding("database", "broken", str(error), error.hint or "")


def _report_findings(findings: "list[Finding]") -> None:
    colours = {"ok": "green", "warning": "yellow", "broken": "red"}
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state:<8}", fg=colours[finding.state])
        click.echo(f"{state} {finding.check:<{width}}  {finding.message}")
        if finding.mend:
            click.echo(f"{'':<8} {'':<{width}}  -> {finding.mend}")
    count = sum(finding.state != "ok" for finding in findings)
    note(f"{_count(count, 'finding')} to look at" if count else "all is well")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
