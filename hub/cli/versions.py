"""`hub publish|ls|show|resolve`: versions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint, json_option, note, print_json, print_table, size
from hub.errors import InvalidData

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Run, Version
    from hub.registry import Registry


@click.command()
@click.argument("name")
@click.argument("source", required=False)
@click.option("--base", "base_name", help="The base of a folder from elsewhere.")
@json_option
def publish(name: str, source: str | None, base_name: str | None, as_json: bool) -> None:
    """Publish SOURCE as the next version of adapter NAME.

    SOURCE is a run (see `hub runs ls`) or a folder in PEFT layout; without it, the newest finished
    run of NAME is taken. The same bytes published again are the version that they already were.
    """
    from hub.home import Home
    from hub.names import parse_name
    from hub.registry import Registry

    parse_name(name)
    home = Home.from_environment()
    with Registry.open(home) as registry:
        if source is not None and Path(source).is_dir():
            version, created = publish_folder(registry, home, name, Path(source), base_name)
        else:
            run = registry.ledger.run(source) if source else _newest_run(registry, name)
            version, created = publish_run(registry, home, run, name)
        report_published(registry, version, created, as_json)


@click.command()
@json_option
def ls(as_json: bool) -> None:
    """List the adapters with their aliases."""
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        summaries = registry.summaries()
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
@json_option
def show(reference: str, as_json: bool) -> None:
    """Show where a version comes from and how it did."""
    from hub.home import Home
    from hub.names import parse_adapter_reference
    from hub.registry import Registry
    from hub.store import Store

    home = Home.from_environment()
    with Registry.open(home) as registry:
        version = registry.resolve(parse_adapter_reference(reference))
        facts = _facts(registry, version, Store(home).folder(version))
    if as_json:
        print_json(facts)
        return
    click.secho(f"{version}", bold=True)
    for key in ("digest", "base", "rank", "size", "aliases", "published", "folder"):
        click.echo(f"  {key:<10} {facts[key]}")
    _show_lineage(version)
    for evaluation in facts["evaluations"]:
        click.echo(f"  evaluated  {evaluation['verdict']}: {evaluation['summary']}")


@click.command()
@click.argument("reference")
@click.option("--at", "moment", metavar="TIME", help="What it meant then (ISO 8601).")
@json_option
def resolve(reference: str, moment: str | None, as_json: bool) -> None:
    """Print the exact version that a reference means."""
    from hub.clock import parse_time
    from hub.home import Home
    from hub.names import parse_adapter_reference
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        version = registry.resolve(
            parse_adapter_reference(reference), at=parse_time(moment) if moment else None
        )
    if as_json:
        print_json({"version": str(version), "digest": version.digest})
    else:
        click.echo(f"{version}  sha256:{version.digest}")


def publish_run(
    registry: "Registry", home: "Home", run: "Run", name: str | None = None
) -> "tuple[Version, bool]":
    """Publish what a finished run made.

    Raises:
        InvalidData: when the run made nothing.
        AdapterRejected: when a check refuses it.
    """
    from hub.names import parse_adapter_reference
    from hub.publish import publish as publish_
    from hub.store import Store

    folder = home.runs / run.id / "adapter"
    if run.status != "finished" or run.lineage is None or not folder.is_dir():
        raise InvalidData(
            f"the run {run.id} is not finished", hint=f"`hub runs show {run.id}` says why."
        )
    parent = run.lineage.get("parent")
    return publish_(
        registry,
        Store(home),
        name or run.adapter,
        folder,
        registry.bases.get(run.base),
        measure_effect=_measure_effect,
        lineage=run.lineage,
        run_id=run.id,
        dataset=registry.ledger.dataset_of(run),
        parent=registry.resolve(parse_adapter_reference(parent)) if parent else None,
    )


def publish_folder(
    registry: "Registry", home: "Home", name: str, folder: Path, base_name: str | None
) -> "tuple[Version, bool]":
    """Publish a PEFT folder that was made elsewhere."""
    from hub.publish import publish as publish_
    from hub.store import Store

    return publish_(
        registry,
        Store(home),
        name,
        folder,
        registry.bases.get(base_name),
        measure_effect=_measure_effect,
        lineage={"source": folder.name, "imported": True},
    )


def _measure_effect(base_source: str, folder: Path) -> Any:
    from hub.cli.extras import require_extra
    from hub.publish import Effect

    require_extra("train", "torch", "transformers", "peft")
    from train.runtime import ready

    ready(quantize=False)
    from train.effect import measure_effect

    report = measure_effect(base_source, folder)
    return Effect(report.changes, report.max_change, report.mean_kl)


def _newest_run(registry: "Registry", name: str) -> "Run":
    finished = [run for run in registry.ledger.runs(name) if run.status == "finished"]
    if not finished:
        raise InvalidData(
            f"there is no finished run of '{name}' to publish",
            hint=f"Run `hub train {name} --data FILE`, or name a folder to publish.",
        )
    return finished[0]


def report_published(
    registry: "Registry",
    version: "Version",
    created: bool,
    as_json: bool,
    more: dict[str, Any] | None = None,
) -> None:
    """Say which version came of it, and what to do next."""
    production = registry.aliases.of(version.adapter).get("production")
    if as_json:
        facts = {"version": str(version), "digest": version.digest, "created": created}
        print_json({**facts, "production": production, **(more or {})})
        return
    click.echo(
        f"{version}  sha256:{version.digest[:12]}  rank {version.rank}, {size(version.size)}"
    )
    if not created:
        note("These bytes were published before; nothing changed.")
    elif production == version.number:
        note(f"It is {version.adapter}'s production version.")
    else:
        hint(f"Production is still {version.adapter}@{production}. "
             f"Next: `hub eval {version} --data HELDOUT`, `hub promote {version}`.")  # fmt: skip


def _facts(registry: "Registry", version: "Version", folder: Path) -> dict[str, Any]:
    named = [a for a, n in registry.aliases.of(version.adapter).items() if n == version.number]
    return {
        "version": str(version),
        "digest": f"sha256:{version.digest}",
        "base": version.base,
        "rank": version.rank,
        "size": size(version.size),
        "aliases": ", ".join(named) or "-",
        "published": f"{version.published_at} by {version.published_by}",
        "folder": str(folder),
        "lineage": version.lineage,
        "evaluations": [
            {
                "against": e.against,
                "metric": e.metric,
                "verdict": e.verdict,
                "summary": e.result["summary"],
                "at": e.at,
            }
            for e in registry.ledger.evaluations(version)
        ],
    }


def _show_lineage(version: "Version") -> None:
    lineage = version.lineage
    dataset = lineage.get("dataset") or {}
    lines = {
        "parent": lineage.get("parent"),
        "data": dataset
        and f"{dataset.get('name')}, {dataset.get('rows')} rows, {str(dataset.get('digest'))[:12]}",
        "seed": (lineage.get("config") or {}).get("seed"),
        "commit": lineage.get("git_commit"),
    }
    for key, value in lines.items():
        if value not in (None, "", {}):
            click.echo(f"  {key:<10} {value}")


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} {number}" for alias, number in aliases.items())
