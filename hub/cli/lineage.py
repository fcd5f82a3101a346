"""`hub lineage|diff`: where versions come from, and how two of them differ."""

import re
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint, json_option, print_json, print_table, printable
from hub.cli.where import hub_option, open_hub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text
    from rich.tree import Tree

    from hub.facts import Change, LineageNode, ModuleChange

_SHOWN_MODULES = 10
_LONGEST_VALUE = 60


@click.command()
@click.argument("reference")
@hub_option
@json_option
def lineage(reference: str, hub_url: str | None, as_json: bool) -> None:
    """Show what a version came from, and what came of it.

    Deleted versions stay in the tree, and can be asked for by number.
    """
    with open_hub(hub_url) as hub:
        found = hub.lineage(reference)
    if as_json:
        print_json(found)
        return
    from rich.tree import Tree

    deleted = "  (deleted)" if found.deleted else ""
    tree = Tree(f"[bold]{found.version}[/]  sha256:{found.digest[:12]}{deleted}", highlight=False)
    came_from = tree.add("[bold]came from[/]")
    for node in found.ancestors:
        _grow(came_from, node)
    became = tree.add("[bold]became[/]" if found.descendants else "[bold]became[/]  nothing yet")
    for node in found.descendants:
        _grow(became, node)
    _print_tree(tree)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--all-modules", is_flag=True, help="Every module, not only the most changed ones.")
@hub_option
@json_option
def diff(a: str, b: str, all_modules: bool, hub_url: str | None, as_json: bool) -> None:
    """Show what differs between two versions: config, data, metrics and weights.

    Weights are compared as updates of the base's, alpha/r B A: their Frobenius norms, that of
    their difference, and the cosine between them.
    """
    with open_hub(hub_url) as hub:
        found = hub.diff(a, b)
    if as_json:
        print_json(found)
        return
    for title, changes in (
        ("config", found.config),
        ("data", found.data),
        ("metrics", found.metrics),
        ("other", found.other),
    ):
        if changes:
            _show_changes(title, found.a, found.b, changes)
    if found.total is not None:
        _show_weights(found.a, found.b, found.weights, found.total, all_modules)
    elif found.note:
        click.echo(found.note)


def _show_changes(title: str, a: str, b: str, changes: "tuple[Change, ...]") -> None:
    rows = [[printable(change.field), _value(change.a), _value(change.b)] for change in changes]
    print_table([title, a, b], rows)
    click.echo()


def _show_weights(
    a: str,
    b: str,
    weights: "tuple[ModuleChange, ...]",
    total: "ModuleChange",
    all_modules: bool,
) -> None:
    shown = weights if all_modules else weights[:_SHOWN_MODULES]
    rows: list[list[Any]] = [
        [m.module, f"{m.norm_a:.4g}", f"{m.norm_b:.4g}", f"{m.norm_difference:.4g}",
         "-" if m.cosine is None else f"{m.cosine:+.3f}"]
        for m in (*shown, total)
    ]  # fmt: skip
    rows[-1][0] = f"all {len(weights)} modules"
    print_table(["norm of the update", f"{a}>", f"{b}>", "difference>", "cosine>"], rows)
    if len(shown) < len(weights):
        hint(f"{len(weights) - len(shown)} more modules: --all-modules.")


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    shown = printable(_joined(value) if isinstance(value, list | tuple) else str(value))
    if re.fullmatch(r"[0-9a-f]{40,64}", shown):
        return shown[:12]
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[: _LONGEST_VALUE - 3]}..."


def _joined(values: "Sequence[object]") -> str:
    return ", ".join(map(str, values)) or "[]"


def _grow(branch: "Tree", node: "LineageNode") -> None:
    child = branch.add(_label(node))
    for below in node.children:
        _grow(child, below)


def _label(node: "LineageNode") -> "Text":
    from rich.text import Text

    label = Text()
    if node.relation:
        label.append(f"{node.relation} ", style="dim")
    label.append(printable(node.name), style="bold strike" if node.deleted else "bold")
    if node.facts:
        label.append(f"  {printable(node.facts)}", style="dim")
    return label


def _print_tree(tree: "Tree") -> None:
    import sys

    from rich.console import Console

    # Piped, it is as wide as it needs to be, so that nothing is cut or wrapped.
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    with console.capture() as captured:
        console.print(tree)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
