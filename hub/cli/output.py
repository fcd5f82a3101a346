"""What commands print: data on stdout (a table, or JSON with --json), everything else on stderr."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def print_json(value: object) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; columns named with a trailing '>' are right-aligned.

    Piped, it is as wide as it needs to be, so that nothing is cut; a terminal that is too narrow
    gets its cells wrapped.
    """
    texts = [["" if cell is None else printable_lines(cell) for cell in row] for row in rows]
    right = [column.endswith(">") for column in columns]
    titles = [column.rstrip(">") for column in columns]
    widths = [max(map(_cells, column)) for column in zip(titles, *texts, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    lines = any("\n" in text for row in texts for text in row)
    if lines or sum(widths) + 2 * (len(widths) - 1) > room:
        _print_wrapped(titles, right, texts)
        return
    padded = [
        "  ".join(
            " " * (width - _cells(text)) + text if r else text + " " * (width - _cells(text))
            for text, width, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (titles, *texts)
    ]
    click.secho(padded[0], bold=True)
    for line in padded[1:]:
        click.echo(line)


def _cells(text: str) -> int:
    """How wide a text is on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _print_wrapped(
    titles: Sequence[str], right: Sequence[bool], texts: Sequence[Sequence[str]]
) -> None:
    """By rich, which wraps cells; on 1,000 rows it takes longer than all the rest of `hub ls`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title, is_right in zip(titles, right, strict=True):
        table.add_column(title, justify="right" if is_right else "left")
    for row in texts:
        table.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else 400, highlight=False)
    # rich pads every line to its columns' widths; a pipe wants none of that.
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


def hint(text: str) -> None:
    """What to do next, dimmed, on stderr."""
    click.secho(text, err=True, dim=True)


def progress_bar(*columns: Any, timed: bool = True) -> "Progress":
    """A progress bar on stderr; `timed` adds the time that is left by the bar's own pace."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        *columns,
        *([TimeRemainingColumn()] if timed else []),
        console=Console(stderr=True),
        transient=False,
    )


def printable(text: str) -> str:
    """For what came from elsewhere and ends up in a terminal: nothing of it may steer that."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def printable_lines(text: object) -> str:
    """The same for text of several lines, which stay."""
    return "\n".join(map(printable, str(text).split("\n")))


def percent(share: float) -> str:
    return f"{share:.1%}"


def size(count: int) -> str:
    """Bytes for people: 812 kB, 3.4 MB."""
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
