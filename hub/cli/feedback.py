"""`hub feedback` and `hub export`: say what was wrong with an answer, and train on it."""

import json
import sys
from pathlib import Path

import click

from hub.cli.output import hint, json_option, note, print_json
from hub.errors import InvalidData, UnknownInteraction, UsageError


@click.command()
@click.argument("interaction", required=False)
@click.option("--last", is_flag=True, help="The newest answer, instead of an id.")
@click.option("--up", is_flag=True, help="A good answer.")
@click.option("--down", is_flag=True, help="A bad answer.")
@click.option("--edit", metavar="TEXT", help="What the answer should have been; - reads stdin.")
@click.option("--tag", "tags", multiple=True, help="A reason; can be repeated.")
@click.option("--comment", metavar="TEXT")
@json_option
def feedback(
    interaction: str | None,
    last: bool,
    up: bool,
    down: bool,
    edit: str | None,
    tags: tuple[str, ...],
    comment: str | None,
    as_json: bool,
) -> None:
    """Say what was right or wrong with an answer.

    INTERACTION is the id in the answer's x-hub-interaction-id header.
    """
    from hub.feedback.interactions import InteractionLog
    from hub.home import Home

    if (interaction is None) is not last:
        raise UsageError("name an interaction, or --last for the newest answer")
    if up and down:
        raise UsageError("an answer is good or bad: give --up or --down")
    if edit == "-":
        edit = sys.stdin.read().strip()
    with InteractionLog.open(Home.from_environment()) as log:
        if last:
            newest = log.newest(1)
            if not newest:
                raise UnknownInteraction("nothing has been answered yet")
            interaction = newest[0].id
        given = log.give_feedback(
            str(interaction),
            thumb=1 if up else -1 if down else None,
            edit=edit,
            tags=list(tags) or None,
            comment=comment,
        )
    if as_json:
        print_json(given)
    else:
        click.echo(f"{given.kind} on {given.interaction_id}")
        if given.kind == "edit":
            hint("Next: `hub export FILE` makes rows to train on from it.")


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["sft", "dpo"]),
    default="sft",
    show_default=True,
    help="sft: edits and good answers. dpo: edits and votes, as pairs.",
)
@click.option("--adapter", help="Only answers of this adapter.")
@click.option("--force", is_flag=True, help="Replace OUTPUT if it is there.")
@json_option
def export(output: Path, format_: str, adapter: str | None, force: bool, as_json: bool) -> None:
    """Write feedback as rows to train on.

    OUTPUT is a JSONL file, or - for stdout. Rows whose prompt stands in an evaluation set are left
    out.
    """
    from hub.feedback.export import evaluated_prompts, export_rows
    from hub.feedback.interactions import InteractionLog
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    if str(output) != "-" and output.exists():
        if not output.is_file():
            raise InvalidData("not a file that rows can be written to", where=str(output))
        if not force:
            raise InvalidData("the file is there already", where=str(output), hint="Add --force.")
    with Registry.open(home) as registry, InteractionLog.open(home) as log:
        evaluations = [
            entry
            for version in registry.versions.all()
            for entry in registry.ledger.evaluations(version)
        ]
        exported = export_rows(
            log, format=format_, adapter=adapter, evaluated=evaluated_prompts(evaluations)
        )
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in exported.rows)
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    _write(output, text)
    if as_json:
        print_json(
            {
                "file": str(output),
                "rows": len(exported.rows),
                "duplicates": exported.duplicates,
                "in_evaluation": exported.in_evaluation,
            }
        )
        return
    click.echo(f"{output}: {len(exported.rows)} rows ({format_})")
    if exported.duplicates or exported.in_evaluation:
        note(
            f"Left out: {exported.duplicates} duplicates, {exported.in_evaluation} rows that"
            " stand in an evaluation set."
        )


def _write(output: Path, text: str) -> None:
    """Beside its place, then renamed: a full disk leaves no half file."""
    beside = output.with_name(f".{output.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidData(f"can't be written ({error.strerror})", where=str(output)) from error
