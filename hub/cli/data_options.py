"""What `hub data` and `hub train` share: sources, `--map`, and counting tokens as a base does."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint

if TYPE_CHECKING:
    from train.data.rows import DataSet
    from train.linting.lint import TokenCounter

files_argument = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)


def _parsed(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    from train.data.formats_map import parse_columns

    return parse_columns(given) if given else None


map_option = click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN,...",
    callback=_parsed,
    help="Which column holds a field, such as prompt=question,completion=answer.",
)
base_option = click.option("--base", "base_name", help="Count tokens as this base does.")


def read(files: tuple[Path, ...], columns: dict[str, str] | None) -> "DataSet":
    """The data set of the files, of standard input, or of a name on the Hub; says what it skipped.

    Raises what `train.data.formats.read_dataset` raises.
    """
    from train.data.formats import read_dataset

    dataset = read_dataset(files, columns=columns, stdin=sys.stdin.buffer)
    say_what_was_skipped(dataset)
    return dataset


def say_what_was_skipped(dataset: "DataSet") -> None:
    """What was read under another name, and the columns that were not read at all."""
    for what, rows in dataset.translated:
        hint(f"{what} ({rows} row{'' if rows == 1 else 's'})")
    if dataset.unused_columns:
        names = ", ".join(f"`{name}`" for name in dataset.unused_columns[:12])
        hint(f"not read: {names}; --map FIELD=COLUMN reads a column as a field")


def token_counter(base_name: str) -> "tuple[TokenCounter, int | None]":
    """Counts tokens as a base does, and the most that it can read."""
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    require_extra("train", "transformers")
    from train.presets import BaseFacts
    from train.templates.tokens import ChatTokenizer

    with Registry.open(Home.from_environment()) as registry:
        base = registry.bases.get(base_name)
    return ChatTokenizer.load(base.source).count, BaseFacts.of(base).context
