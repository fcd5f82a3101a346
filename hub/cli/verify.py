"""`hub verify`: the publish gate's checks, after the fact."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import json_option, note, print_json, printable
from hub.cli.where import hub_option, open_hub
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.facts import CheckResult, Verification

_COLORS = {"ok": "green", "failed": "red", "skipped": "yellow"}


@click.command()
@click.argument("reference", required=False)
@click.option("--all", "everything", is_flag=True, help="Every version in the hub.")
@click.option("--no-effect", is_flag=True, help="Leave out the check that runs the base model.")
@click.option(
    "--key",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Demand a signature by a public key in this file; may be given several times.",
)
@hub_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    reference: str | None,
    everything: bool,
    no_effect: bool,
    key_files: tuple[Path, ...],
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Run the publish gate's checks again on a version, or on all; each is listed by its name.

    Also compares what is stored with its hashes. Exit code 1 when a check has failed; what could
    not be checked is skipped, and says why.
    """
    if (reference is None) != everything:
        raise UsageError("give either a version to verify or --all")
    keys = [line for file in key_files for line in _lines(file)]
    with open_hub(hub_url) as hub:
        found = hub.verify(reference, effect=not no_effect, keys=keys)
        results = list(found if as_json else _shown(found, each=not everything))
    if as_json:
        print_json(results if everything else results[0])
    failed = sum(not result.ok for result in results)
    if everything and not as_json:
        note(f"{len(results)} verified, {failed} failed" if results else "Nothing is published.")
    context.exit(1 if failed else 0)


def _lines(file: Path) -> list[str]:
    from hub.keys import read_public_keys

    return [key.line for key in read_public_keys(file)]


def _shown(results: "Iterator[Verification]", *, each: bool) -> "Iterator[Verification]":
    """Print every result as it comes: one version check by check, many by a line each."""
    for result in results:
        if each:
            click.secho(f"{result.version}  sha256:{result.digest[:12]}", bold=True)
            for check in result.checks:
                click.echo(
                    f"  {_state(check)}  {check.check:<9}  {printable(check.message)}".rstrip()
                )
        else:
            faults = [check for check in result.checks if check.state == "failed"]
            skipped = [check.check for check in result.checks if check.state == "skipped"]
            words = "; ".join(f"{check.check}: {check.message}" for check in faults)
            if not faults:
                words = f"{len(result.checks) - len(skipped)} checks"
                words += f", skipped: {', '.join(skipped)}" if skipped else ""
            state = click.style(f"{'ok' if result.ok else 'failed':<7}", fg=_color(result))
            click.echo(f"{state}  {result.version:<20}  {printable(words)}")
        yield result


def _state(check: "CheckResult") -> str:
    return click.style(f"{check.state:<7}", fg=_COLORS[check.state])


def _color(result: "Verification") -> str:
    return _COLORS["ok" if result.ok else "failed"]
