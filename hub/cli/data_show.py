"""`hub data show`: rows as they are understood, for reading."""

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.data_options import files_argument, map_option, read
from hub.cli.output import hint, json_option, print_json
from hub.errors import InvalidData, UsageError

if TYPE_CHECKING:
    from train.data.rows import Message, Row
    from train.templates.masks import Mask

_LONGEST = 2000  # characters of a message; --json has them all
_RANGE = re.compile(r"(\d+)(-)?(\d+)?")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Rows(click.ParamType[Any]):
    """`3` is the first three rows, `3-5` the rows of these numbers, `3-` all from there on."""

    name = "rows"

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        found = _RANGE.fullmatch(str(value))
        if found is None:
            self.fail(f"'{value}' is not a number of rows (3) or a range of them (3-5, 7-)")
        first, dash, last = found.groups()
        if dash is None:
            return None, None, int(first)
        if last is not None and int(last) < int(first):
            self.fail(f"the range {value} ends before it begins")
        return int(first), int(last) if last else None, None


@click.command()
@files_argument
@click.option(
    "-n", "--rows", "wanted", type=Rows(), default="3", show_default=True, metavar="N|A-B",
    help="How many rows, or the rows of these numbers.",
)  # fmt: skip
@click.option("--mask", is_flag=True, help="With --base: which tokens are trained on.")
@click.option("--base", "base_name", help="The base whose chat template --mask renders rows by.")
@map_option
@json_option
def show(
    files: tuple[Path, ...],
    wanted: tuple[int | None, int | None, int | None],
    mask: bool,
    base_name: str | None,
    columns: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Show rows as they are understood: who says what, tools, and which answer is preferred.

    A row's number is the one that every message about it names: the line in JSONL and CSV.
    """
    if mask != (base_name is not None):
        raise UsageError("--mask and --base go together", hint="Such as `--mask --base NAME`.")
    dataset = read(files, columns)
    rows = _chosen(dataset.rows, wanted)
    if not rows:
        last = dataset.rows[-1].number
        raise InvalidData(
            "there is no row of these numbers",
            where=dataset.source,
            hint=f"They go from {dataset.rows[0].number} to {last}.",
        )
    if base_name is not None:
        _show_masks(rows, base_name, as_json)
        return
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    for row in rows:
        _print(row)
    hint(
        f"{len(dataset):,} row{'' if len(dataset) == 1 else 's'}, {dataset.kind}, "
        f"format {dataset.format}, "
        f"sha256:{dataset.digest[:12]}"
    )


def _show_masks(rows: tuple["Row", ...], base_name: str, as_json: bool) -> None:
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    require_extra("train", "transformers")
    from train.templates.masks import mask_of
    from train.templates.tokens import ChatTokenizer

    with Registry.open(Home.from_environment()) as registry:
        base = registry.bases.get(base_name)
    chat = ChatTokenizer.load(base.source)
    masks = [mask_of(chat, row) for row in rows]
    if as_json:
        print_json([mask.to_json() for mask in masks])
        return
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for mask in masks:
        _print_mask(mask, coloured)
    if any(mask.encoded.unserved for mask in masks):
        hint("Read only is what does not stand as it is served: docs/training.md has the table.")
    hint(f"{'Green' if coloured else 'In ⟦ ⟧'} is what the loss is taken on.")


def _print_mask(mask: "Mask", coloured: bool) -> None:
    """Trained tokens green in a terminal with colours; in brackets everywhere else."""
    name, total = f"{mask.row.file}:{mask.row.number}", len(mask.encoded.ids)
    click.secho(f"{name}  trained on {mask.trained:,} of {total:,} tokens", dim=True, nl=False)
    if unserved := mask.encoded.unserved:
        many = "answer" if unserved == 1 else "answers"
        click.secho(f", {unserved} {many} read only", fg="yellow", nl=False)
    click.echo()
    shown = ""
    for text, trained in mask.stretches():
        shown = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
        if trained:
            shown = click.style(shown, fg="green", bold=True) if coloured else f"⟦{shown}⟧"
        click.echo(shown, nl=False)
    click.echo("" if shown.endswith("\n") else "\n")


def _chosen(
    rows: tuple["Row", ...], wanted: tuple[int | None, int | None, int | None]
) -> tuple["Row", ...]:
    first, last, count = wanted
    if first is None:
        return rows[:count]
    return tuple(
        row for row in rows if row.number >= first and (last is None or row.number <= last)
    )


def _print(row: "Row") -> None:
    click.secho(f"{row.file}:{row.number}", dim=True)
    if row.tools:
        _line("tools", ", ".join(_tool_name(tool) for tool in row.tools), "magenta")
    if row.kind == "chat":
        _print_messages(row.messages)
    else:
        _print_messages(row.prompt)
        if row.kind == "preference":
            _print_messages(row.completion, "chosen", "green")
            _print_messages(row.rejected, "rejected", "red")
        else:
            good = bool(row.label)
            _print_messages(row.completion, "good" if good else "not good",
                            "green" if good else "red")  # fmt: skip
    click.echo()


def _print_messages(
    messages: Iterable["Message"], speaker: str | None = None, colour: str | None = None
) -> None:
    for message in messages:
        who = speaker if speaker and message.role == "assistant" else message.role
        if message.weight == 0:
            who += " (not learned)"
        said = f"(refuses) {message.content}" if message.refusal else message.content
        if said or not message.tool_calls:
            _line(who, said, colour)
        for call in message.tool_calls:
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            given = function.get("arguments", "")
            given = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            _line(who, f"calls {_tool_name(call)}({given})", "magenta")


def _line(who: str, said: str, colour: str | None) -> None:
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}… ({len(said):,} characters)"
    # A terminal obeys control characters, and data may hold any.
    said = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], said)
    indented = said.replace("\n", "\n" + " " * 13)
    click.echo(f"  {click.style(f'{who:<9}', bold=True, fg=colour)}  {indented}")


def _tool_name(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    return str((function if isinstance(function, dict) else tool).get("name", "?"))
