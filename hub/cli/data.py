"""`hub data`: look at data before training on it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json, print_table

if TYPE_CHECKING:
    from train.findings import Finding, LintReport
    from train.lint import TokenCounter

_MAX_ROWS_SHOWN = 5
files_argument = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)


@click.group()
def data() -> None:
    """Read, lint and show data sets."""


@data.command("lint")
@files_argument
@click.option(
    "--heldout",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Rows that must not be trained on; can be repeated.",
)
@click.option("--base", "base_name", help="Count tokens as this base does.")
@json_option
@click.pass_context
def lint_command(
    context: click.Context,
    files: tuple[Path, ...],
    heldout: tuple[Path, ...],
    base_name: str | None,
    as_json: bool,
) -> None:
    """Find what ruins a fine-tune, before any computing is spent on it.

    Exit code 1 when an error was found; warnings and notes leave it at 0.
    """
    from train.formats import read_dataset
    from train.lint import lint

    dataset = read_dataset(files)
    kept_apart = read_dataset(heldout) if heldout else None
    if base_name is None:
        report = lint(dataset, heldout=kept_apart)
    else:
        count, limit = _token_counter(base_name)
        report = lint(dataset, heldout=kept_apart, count_tokens=count, max_length=limit)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    context.exit(0 if report.ok else 1)


@data.command()
@files_argument
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=3, show_default=True, help="How many rows."
)
@json_option
def show(files: tuple[Path, ...], rows: int, as_json: bool) -> None:
    """Show the first rows as they are understood: in OpenAI's messages."""
    from train.formats import read_dataset

    dataset = read_dataset(files)
    if as_json:
        print_json([row.to_json() for row in dataset.rows[:rows]])
        return
    for row in dataset.rows[:rows]:
        click.secho(f"{row.file}:{row.number}", dim=True)
        for message in row.messages:
            click.echo(f"  {click.style(message.role, bold=True):<9}  {message.content}")
    hint(f"{len(dataset.rows)} rows, format {dataset.format}, sha256:{dataset.digest[:12]}")


def print_report(report: "LintReport") -> None:
    """The findings as a table, worst first, and one line that sums up."""
    if report.findings:
        print_table(
            ["severity", "rule", "rows>", "what", "where"],
            [
                [f.severity, f.rule, len(f.rows) or "", f.reason, _places(f)]
                for f in report.findings
            ],
        )
    verdict = "ready to train on" if report.ok else "not ready: mend the errors first"
    summed = ", ".join(f"{count} {name}" for name, count in report.counts.items() if count)
    click.echo(f"{report.dataset}: {report.rows} rows, {summed or 'nothing found'}; {verdict}")
    if report.tokens is not None:
        tokens = report.tokens
        note(
            f"{tokens.total:,} tokens, {tokens.trained:,} trained on, longest row {tokens.longest}"
        )


def _places(finding: "Finding") -> str:
    shown = ", ".join(str(place["row"]) for place in finding.places(_MAX_ROWS_SHOWN))
    return f"{shown}, …" if len(finding.rows) > _MAX_ROWS_SHOWN else shown


def _token_counter(base_name: str) -> "tuple[TokenCounter, int | None]":
    """Counts tokens as a base does, and the most that it can read."""
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    require_extra("train", "transformers")
    from train.presets import BaseFacts
    from train.tokens import ChatTokenizer

    with Registry.open(Home.from_environment()) as registry:
        base = registry.bases.get(base_name)
    return ChatTokenizer.load(base.source).count, BaseFacts.of(base).context
