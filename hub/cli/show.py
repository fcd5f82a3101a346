"""`hub show`: one version, where it comes from and how it did."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import json_option, print_json, printable, size
from hub.cli.where import hub_option, open_hub

if TYPE_CHECKING:
    from hub.facts import VersionFacts

_SHORT = 12


@click.command()
@click.argument("reference")
@hub_option
@json_option
def show(reference: str, hub_url: str | None, as_json: bool) -> None:
    """Show where a version comes from and how it did."""
    with open_hub(hub_url) as hub:
        facts = hub.show(reference)
    if as_json:
        print_json(facts)
        return
    click.secho(facts.version, bold=True)
    for key, text in (*_version(facts), *_parents(facts), *_origin(facts.lineage), *_judged(facts)):
        click.echo(f"  {key:<10} {printable(text)}")


def _version(facts: "VersionFacts") -> Iterator[tuple[str, str]]:
    base = facts.base
    yield "digest", f"sha256:{facts.digest}"
    yield "base", f"{base.name}, revision {base.revision}"
    for key, digest in (
        ("config", base.config_sha256),
        ("tokenizer", base.tokenizer_sha256),
        ("template", base.template_sha256),
    ):
        if digest:
            yield "", f"{key} sha256:{digest}"
    yield "rank", f"{facts.rank}"
    yield "size", size(facts.size)
    yield "aliases", ", ".join(facts.aliases) or "-"
    yield "published", f"{facts.published_at} by {facts.published_by}"
    for number, file in enumerate(facts.files):
        shown = f"{file.path}, {file.size:,} bytes, sha256:{file.sha256[:_SHORT]}"
        yield "" if number else "files", shown
    if facts.folder is not None:
        yield "folder", facts.folder
    if facts.store is not None:
        yield "blobs", facts.store


def _parents(facts: "VersionFacts") -> Iterator[tuple[str, str]]:
    for parent in facts.parents:
        weight = f", weight {parent.weight}" if parent.weight else ""
        gone = ", deleted" if parent.deleted else "" if parent.here else ", not in this hub"
        digest = f"  sha256:{parent.digest[:_SHORT]}" if parent.digest else ""
        yield "parent", f"{parent.version}{digest}  ({parent.relation}{weight}{gone})"


def _origin(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the lineage has, in lines. It may be anybody's: nothing of it is taken for granted."""
    if lineage.get("source"):
        yield "source", str(lineage["source"])
    for stop in _list(lineage.get("pulled")):
        yield "pulled", _pairs(_mapping(stop))
    if dataset := _mapping(lineage.get("dataset")):
        yield "data", _data(dataset)
    if lint := _mapping(lineage.get("lint")):
        yield from _lint(lint)
    if lineage.get("run"):
        yield "run", str(lineage["run"])
    if lineage.get("method"):
        yield "method", f"{lineage['method']}, seed {lineage.get('seed')}"
    for key in ("config", "metrics", "effect", "libraries"):
        if facts := _mapping(lineage.get(key)):
            yield key, _pairs(facts)
    if lineage.get("git_commit"):
        yield "commit", str(lineage["git_commit"])


def _judged(facts: "VersionFacts") -> Iterator[tuple[str, str]]:
    for entry in facts.evaluations:
        against = f"against {entry.against}, rows sha256:{entry.dataset_digest[:_SHORT]}"
        yield "evaluated", f"{entry.verdict}: {entry.summary} ({against})"
    for signature in facts.signatures:
        yield "signed", f"{signature.key_id} by {signature.signed_by} at {signature.signed_at}"


def _data(dataset: Mapping[str, Any]) -> str:
    parts = [str(dataset.get("name")), f"{dataset.get('rows')} rows"]
    if "training_rows" in dataset:
        parts[1] += (
            f" ({dataset['training_rows']} to train, {dataset.get('validation_rows')} to validate)"
        )
    return ", ".join([*parts, f"sha256:{dataset.get('digest')}"])


def _lint(lint: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts = _mapping(lint.get("counts"))
    found = [(kind, counts.get(kind, 0)) for kind in ("error", "warning", "info")]
    yield "lint", ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in found)
    for finding in map(_mapping, _list(lint.get("findings"))):
        yield "", f"{finding.get('severity')}: {finding.get('reason')} ({finding.get('count')})"


def _pairs(facts: Mapping[str, Any]) -> str:
    """`rank 16, alpha 32`, without what is not set."""
    set_ = {key: value for key, value in facts.items() if value not in (None, [], {}, "")}
    return ", ".join(f"{key} {_short(value)}" for key, value in set_.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
