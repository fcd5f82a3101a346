"""A finished run's report for the terminal: the facts of its `report.html`, in the same order.

Figures and words come from the lineage, curves and texts from the files beside the page; of a run
whose folder is gone the lineage is what is left.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hub.cli.output import print_table, printable

_MEBIBYTE = 1 << 20
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 48
_COLOURS = {"good": "green", "bad": "red", "open": None}
_SHOWN_CHARACTERS = 240


def report_files(folder: Path) -> dict[str, Any]:
    """What lies beside the page: `curves` (points) and `samples` and `repeated` (with texts)."""
    texts = _read(folder / "texts.json") or {"samples": [], "repeated": []}
    return {"curves": _read(folder / "history.json") or [], **texts}


def print_report(lineage: Mapping[str, Any], folder: Path) -> None:
    """Everything on stdout; nothing where the run has not finished."""
    from train.reporting.told import told

    if not lineage:
        return
    files = report_files(folder)
    for one in told(lineage):
        click.echo()
        click.secho(f"{one.title}: {one.word}", bold=True, fg=_COLOURS[one.state])
        click.echo(_wrapped(one.words))
    _print_curves(files["curves"], lineage)
    _print_cost(lineage)
    _print_samples(files["samples"])
    _print_repeated(files["repeated"])


def _print_curves(points: Sequence[Mapping[str, Any]], lineage: Mapping[str, Any]) -> None:
    evaluations = [point for point in points if point["validation_loss"] is not None]
    training = [point["loss"] for point in points if point["loss"] is not None]
    if not training:
        return
    click.echo()
    click.secho("Loss", bold=True)
    click.echo(f"  training    {_sparkline(training)}  {training[0]:.4g} to {training[-1]:.4g}")
    if not evaluations:
        return
    losses = [point["validation_loss"] for point in evaluations]
    click.echo(f"  validation  {_sparkline(losses)}  {losses[0]:.4g} to {losses[-1]:.4g}")
    best = lineage["metrics"]["best_step"]
    rows = [
        [point["step"], f"{point['epoch']:g}", f"{point['validation_loss']:.4g}",
         "kept" if point["step"] == best else ""]
        for point in evaluations
    ]  # fmt: skip
    print_table(["  step>", "epoch>", "validation loss>", ""], rows)


def _print_cost(lineage: Mapping[str, Any]) -> None:
    from train.reporting.told import energy, energy_source

    metrics = lineage["metrics"]
    click.echo()
    click.secho("What it took", bold=True)
    click.echo(f"  tokens  {metrics['tokens']:,}")
    click.echo(f"  time    {metrics['seconds']:.0f} s on {metrics['device']}")
    click.echo(f"  memory  {metrics['peak_memory'] / _MEBIBYTE:,.0f} MiB at most")
    known = (lineage.get("energy") or {}).get("joules") is not None
    source = energy_source(lineage)
    click.echo(f"  energy  {energy(lineage)}, {source}" if known else f"  energy  {source}")


def _print_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    if not samples:
        return
    click.echo()
    click.secho("Held-out rows, base against tuned", bold=True)
    for sample in samples:
        click.secho(f"  {_short(sample['question'])}", fg="cyan")
        for name in ("base", "tuned", "data"):
            click.echo(f"    {name:<5}  {_short(sample[name]) or '(nothing)'}")


def _print_repeated(repeated: Sequence[Mapping[str, Any]]) -> None:
    if not repeated:
        return
    click.echo()
    click.secho("Repeated training text, worst first", bold=True)
    for one in repeated:
        seen = "training" if one["prompt_of"]["trained_on"] else "unseen"
        click.secho(
            f"  {one['tokens']} tokens of row {one['answer_of']['row']}, on the {seen} prompt:"
            f" {_short(one['question'])}",
            fg="cyan",
        )
        click.echo(f"    tuned     {_short(one['output'])}")
        click.echo(f"    training  {_short(one['answer'])}")


def _sparkline(values: Sequence[float]) -> str:
    """One character a value, at most 48; the height is logarithmic, as in the page."""
    stride = max(1, -(-len(values) // _CURVE))
    logs = [math.log(max(value, 1e-9)) for value in values[::stride]]
    low, span = min(logs), max(max(logs) - min(logs), 1e-9)
    return "".join(_BARS[round((one - low) / span * (len(_BARS) - 1))] for one in logs)


def _short(text: str) -> str:
    """On one line, and not too long of it: the page has all."""
    line = printable(" ".join(text.split()))
    return f"{line[: _SHOWN_CHARACTERS - 1]}…" if len(line) > _SHOWN_CHARACTERS else line


def _wrapped(words: str) -> str:
    return click.wrap_text(words, width=96, initial_indent="  ", subsequent_indent="  ")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
