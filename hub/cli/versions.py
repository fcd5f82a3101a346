"""`hub publish|ls|resolve`: versions."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint, json_option, note, print_json, print_table, size
from hub.cli.where import hub_option, open_here, open_hub
from hub.errors import InvalidData, NoHome, UnknownBase, UsageError

if TYPE_CHECKING:
    from hub.facts import Published
    from hub.local import LocalHub
    from hub.operations import Operations
    from hub.records import Run


@click.command()
@click.argument("name")
@click.argument("source", required=False)
@click.option("--base", "base_name", help="The base of a folder from elsewhere.")
@hub_option
@json_option
def publish(
    name: str, source: str | None, base_name: str | None, hub_url: str | None, as_json: bool
) -> None:
    """Publish SOURCE as the next version of adapter NAME.

    SOURCE is a run (see `hub runs ls`) or a folder in PEFT layout; without it, the newest finished
    run of NAME is taken. The same bytes published again are the version that they already were.
    With --hub a folder, or a run of the hub here, is published there, with its lineage.
    """
    from hub.names import parse_name

    parse_name(name)
    if source == "" or base_name == "":
        raise UsageError("SOURCE and --base can't be empty", hint="Name a folder, a run, a base.")
    if source is not None and (Path(source).is_dir() or "/" in source):
        folder = Path(source)
        lineage = {"source": folder.resolve().name, "imported": True}
        with open_hub(hub_url) as hub:
            published = hub.publish(name, folder, base=base_name, lineage=lineage)
    else:
        if base_name is not None:
            raise UsageError("--base goes with a folder: a run knows its base")
        published = _publish_from_here(name, source, hub_url)
    report_published(published, as_json)


@click.command()
@hub_option
@json_option
def ls(hub_url: str | None, as_json: bool) -> None:
    """List the adapters with their aliases."""
    with open_hub(hub_url) as hub:
        summaries = list(hub.adapters())
    if as_json:
        print_json(summaries)
    elif summaries:
        rows = [
            [s.name, s.versions, _aliases(s.aliases), s.base, s.updated_at[:16].replace("T", " ")]
            for s in summaries
        ]
        print_table(["adapter", "versions>", "aliases", "base", "updated (UTC)"], rows)
    else:
        hint("Nothing is published yet. Run `hub train NAME --data FILE`.")


@click.command()
@click.argument("reference")
@click.option("--at", "moment", metavar="TIME", help="What it meant then (ISO 8601).")
@hub_option
@json_option
def resolve(reference: str, moment: str | None, hub_url: str | None, as_json: bool) -> None:
    """Print the exact version that a reference means."""
    from hub.clock import parse_time

    # A time without a zone is one of this machine's.
    at = parse_time(moment) if moment is not None else None
    with open_hub(hub_url) as hub:
        resolved = hub.resolve(reference, at=at)
    if as_json:
        print_json(resolved)
    else:
        since = "  (deleted since)" if resolved.deleted else ""
        click.echo(f"{resolved.version}  sha256:{resolved.digest}{since}")


def _publish_from_here(name: str, source: str | None, hub_url: str | None) -> "Published":
    """Publish a run of the hub here, in it or in another."""
    try:
        with open_here() as here:
            run = here.registry.ledger.run(source) if source else _newest_run(here, name)
            if hub_url is None:
                return publish_run(here, here, run, name)
            with open_hub(hub_url) as there:
                return publish_run(there, here, run, name)
    except NoHome as error:
        if hub_url is None:
            raise
        what = f"there is no folder '{source}'" if source else "no folder is named"
        raise InvalidData(
            f"{what}, and no hub is here whose run it could be",
            hint="Name a folder in PEFT layout; a run is published from the hub that made it.",
        ) from error


def publish_run(
    hub: "Operations", here: "LocalHub", run: "Run", name: str | None = None
) -> "Published":
    """Publish to a hub what a finished run of the hub here made.

    Raises:
        InvalidData: when the run made nothing.
        UnknownBase: when the run's base is not in that hub, whatever it is called there.
        AdapterRejected: when a check refuses it.
    """
    folder = here.home.runs / run.id / "adapter"
    if run.status != "finished" or run.lineage is None or not folder.is_dir():
        raise InvalidData(
            f"the run {run.id} is not finished", hint=f"`hub runs show {run.id}` says why."
        )
    base = here.registry.bases.get(run.base)
    lineage = {**run.lineage, "run": run.id}
    try:
        published = hub.publish(name or run.adapter, folder, base=base.digest, lineage=lineage)
    except UnknownBase as error:
        raise UnknownBase(
            f"the run's base '{base.name}' (sha256:{base.digest[:12]}) is not in that hub",
            hint=error.hint,
        ) from error
    here.registry.ledger.add_event(run.id, "published", {"version": published.version})
    return published


def report_published(
    published: "Published", as_json: bool, more: dict[str, Any] | None = None
) -> None:
    """Say which version came of it, and what to do next."""
    if as_json:
        print_json({**asdict(published), **(more or {})})
        return
    version, production = published.version, published.production
    adapter, _, number = version.rpartition("@")
    click.echo(
        f"{version}  sha256:{published.digest[:12]}  rank {published.rank}, {size(published.size)}"
    )
    if published.mended:
        things = "1 thing was" if published.mended == 1 else f"{published.mended} things were"
        note(f"Mended from these files: {things} damaged or missing in the hub.")
    if not published.created and published.mended:
        note("These bytes were published before.")
    elif not published.created:
        note("These bytes were published before; nothing changed.")
    elif str(production) == number:
        note(f"It is {adapter}'s production version.")
    else:
        hint(f"Production is still {adapter}@{production}. "
             f"Next: `hub eval {version} --data HELDOUT`, `hub promote {version}`.")  # fmt: skip


def _newest_run(here: "LocalHub", name: str) -> "Run":
    # The runs of a sweep that were not its best have none.
    finished = [
        run for run in here.registry.ledger.runs(name)
        if run.status == "finished" and (here.home.runs / run.id / "adapter").is_dir()
    ]  # fmt: skip
    if not finished:
        raise InvalidData(
            f"there is no finished run of '{name}' to publish",
            hint=f"Run `hub train {name} --data FILE`, or name a folder to publish.",
        )
    return finished[0]


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} {number}" for alias, number in aliases.items())
