"""The documents say what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub.cli.main import cli
from tests.command import Hub

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])


def test_the_command_reference_is_the_help() -> None:
    """docs/commands.md is what `python docs/commands.py` writes now."""
    # In a process of its own: click keeps a command's --help as whoever asked first named it.
    script = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['render']())"
    page = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "docs" / "commands.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs" / "commands.md").read_text() == page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page is there."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_documents_exist(page: Path) -> None:
    """`hub xyz` in a page is a command, and its options are options of that command."""
    text = page.read_text()
    if page.name == "commands.md":
        return
    shown = re.findall(r"^\$ (hub .+)$", text, re.M) + re.findall(r"`(hub [a-z][^`]*)`", text)
    for line in (part.strip() for whole in shown for part in re.split(r"&&|&|#", whole)):
        if not line.startswith("hub "):
            continue
        command = cli.commands.get(line.split()[1])
        assert command is not None or "|" in line, line
        if command is None:
            continue
        if hasattr(command, "commands") and len(line.split()) > 2:
            command = command.commands.get(line.split()[2], command)
        known = {option for parameter in command.params for option in parameter.opts}
        own = re.sub(r"'[^']*'", "", line)  # what is quoted goes to somebody else
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", own):
            assert option in known | {"--help"}, line


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    """`python -m hub --version` is `hub --version`."""
    assert Hub(tmp_path).ok("--version").stdout.startswith("hub, version ")
