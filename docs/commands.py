"""`python docs/commands.py` writes docs/commands.md from the commands' own --help."""

from collections.abc import Iterator
from pathlib import Path

import click

from hub.cli.main import cli

HERE = Path(__file__).parent


def render() -> str:
    """The page: every command's help, as a terminal of 100 columns shows it."""
    parts = [
        "# Commands",
        "",
        "Made by `python docs/commands.py` from `--help`; a test compares the two. Exit codes:"
        " 0 done, 1 failed, 2 usage, 3 the gate says FAIL, 4 the gate says INSUFFICIENT.",
        "",
        "| variable | meaning |",
        "| --- | --- |",
        "| `HUB_HOME` | the hub's folder; default: the current one |",
        "| `HUB_SERVER` | what `eval` and `chat` ask; default: `http://127.0.0.1:8000` |",
        "| `HUB_DEBUG=1` | tracebacks with errors |",
        "",
    ]
    for path, command in walk("hub", cli):
        context = click.Context(
            command, info_name=path, terminal_width=100, help_option_names=["-h", "--help"]
        )
        parts += [f"## {path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(parts)


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(f"{path} {name}", child)


if __name__ == "__main__":
    (HERE / "commands.md").write_text(render(), encoding="utf-8")
