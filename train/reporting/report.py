"""The report of a run: one HTML file that needs nothing else, to be read, mailed or attached.

It is made from the lineage, the curves and what was examined, and shows what those hold. Everything
that came from data or a model is escaped. Text of the data is in it, which the lineage leaves out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from hub.manifest import canonical_json
from train.progress import Point
from train.reporting.chart import NARROW, WIDE, loss_chart
from train.reporting.checks import forgetting_section, memorisation_section
from train.reporting.examine import Examined
from train.reporting.method import loss_title, method_section
from train.reporting.samples import Sample
from train.reporting.tables import cost_section, lint_section, origin_section, settings_section
from train.reporting.told import told
from train.reporting.verdict import verdict

_HELD_OUT = "<h2>Held-out rows, base against tuned</h2>"


def finish_report(
    folder: Path, lineage: Mapping[str, Any], history: Sequence[Point], examined: Examined
) -> dict[str, Any]:
    """Write a run's `report.html`, and as JSON what it draws (`history`) and quotes (`texts`).

    The lineage with what was examined and the verdict in words. Each file is whole or not there.
    """
    facts = {**lineage, **examined.facts, "verdict": asdict(verdict(history))}
    _write(folder / "report.html", render(facts, history, examined))
    _write_json(folder / "history.json", [asdict(point) for point in history])
    _write_json(folder / "texts.json", examined.to_json())
    return facts


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(json.loads(canonical_json(value)), indent=2))  # NaN is refused


def _write(path: Path, text: str) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8", errors="replace")
    scratch.replace(path)


def render(lineage: Mapping[str, Any], history: Sequence[Point], examined: Examined) -> str:
    config, data = lineage["config"], lineage["dataset"]
    title = escape(f"{config['adapter']} on {lineage['base']['name']}")
    style = resources.files("train.reporting").joinpath("report.css").read_text(encoding="utf-8")
    subtitle = escape(
        f"{config['method'].upper()}, preset {config['preset']}, {data['training_rows']} rows "
        f"trained on and {data['validation_rows']} validated on, from {data['name']}"
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{style}</style></head><body>",
            f'<header><h1>{title}</h1><p class="soft">{subtitle}</p></header>',
            _verdicts(lineage),
            _curves(history, lineage),
            cost_section(lineage),
            method_section(lineage),
            _samples(examined.samples, lineage),
            memorisation_section(lineage, examined.worst),
            forgetting_section(lineage),
            lint_section(lineage["lint"]),
            settings_section(config),
            origin_section(lineage),
            "</body></html>\n",
        ]
    )


def _verdicts(lineage: Mapping[str, Any]) -> str:
    cards = "".join(
        f'<div class="card told {one.state}"><h2>{escape(one.title)}</h2>'
        f'<p class="word">{escape(one.word)}</p><p>{escape(one.words)}</p></div>'
        for one in told(lineage)
    )
    return f'<div class="verdicts">{cards}</div>'


def _curves(history: Sequence[Point], lineage: Mapping[str, Any]) -> str:
    best = lineage["metrics"]["best_step"]
    wide, narrow = (loss_chart(history, best, width=width) for width in (WIDE, NARROW))
    if not wide:
        return ""
    drawn = [("training", "training loss")]
    if any(point.validation_loss is not None for point in history):
        drawn += [("validation", "validation loss"), ("kept", "checkpoint kept")]
    legend = "".join(f'<span><i class="{colour}"></i>{text}</span>' for colour, text in drawn)
    return (
        f"<h2>{escape(loss_title(lineage))}</h2>"
        f'<div class="card"><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f'<div class="legend">{legend}</div></div>'
    )


def _samples(samples: Sequence[Sample], lineage: Mapping[str, Any]) -> str:
    if not samples:
        why = (
            "none were asked for (report_prompts: 0)"
            if not lineage["config"].get("report_prompts", True)
            else "no rows were held out"
        )
        return f'{_HELD_OUT}<p class="soft">There are none to read: {why}.</p>'
    most = lineage["memorisation"]["most_new_tokens"]
    cards = "".join(_sample(sample) for sample in samples)
    return (
        f'{_HELD_OUT}<p class="soft">Greedy, {most} new tokens at most; neither was trained on'
        f" these.</p>{cards}"
    )


def _sample(sample: Sample) -> str:
    answers = "".join(
        f'<div class="{kind}"><h3>{title}</h3><div class="text">{escape(text) or "(nothing)"}'
        "</div></div>"
        for kind, title, text in (
            ("base", "Base", sample.base),
            ("tuned", "Tuned", sample.tuned),
            ("data", "In the data", sample.row.answer),
        )
    )
    return (
        '<div class="card sample">'
        f'<div class="question text">{escape(sample.row.question)}</div>'
        f'<div class="answers">{answers}</div></div>'
    )
