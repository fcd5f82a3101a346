"""`hub data`: look at data before training on it, and put it into shape."""

import click

from hub.cli.data_convert import convert, split, stats_command
from hub.cli.data_lint import lint_command
from hub.cli.data_show import show


@click.group()
def data() -> None:
    """Show, count, lint, convert and split data sets.

    A FILE is JSONL, JSON, CSV, TSV or Parquet (each also with .gz), `-` for standard input, or the
    name of a data set on the Hugging Face Hub: hf:OWNER/NAME, hf:OWNER/NAME:SPLIT or
    hf:OWNER/NAME:CONFIG:SPLIT.
    """


for command in (show, stats_command, lint_command, convert, split):
    data.add_command(command)
