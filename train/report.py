"""The report of a run: one HTML file that needs nothing else, to be read, mailed or attached.

It is made from the lineage, the curves and the samples, and shows what those hold. Everything that
came from data or a model is escaped.

Absent on purpose: memorisation and forgetting, which have yet to be measured.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from train.progress import Point
from train.report_chart import loss_chart
from train.report_method import loss_title, method_section
from train.samples import Sample
from train.verdict import verdict

_MEBIBYTE = 1 << 20


def write_report(
    path: Path, lineage: Mapping[str, Any], history: Sequence[Point], samples: Sequence[Sample]
) -> None:
    """Write it beside its place and rename, so that a reader never sees half of it."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(render(lineage, history, samples), encoding="utf-8")
    scratch.replace(path)


def render(lineage: Mapping[str, Any], history: Sequence[Point], samples: Sequence[Sample]) -> str:
    config, data = lineage["config"], lineage["dataset"]
    title = escape(f"{config['adapter']} on {lineage['base']['name']}")
    style = resources.files("train").joinpath("report.css").read_text(encoding="utf-8")
    subtitle = escape(
        f"{config['method'].upper()}, preset {config['preset']}, {data['training_rows']} rows "
        f"trained on and {data['validation_rows']} validated on, from {data['name']}"
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{style}</style></head><body>",
            f'<h1>{title}</h1><p class="soft">{subtitle}</p>',
            f'<p class="verdict">{escape(verdict(history))}</p>',
            _metrics(lineage),
            _curves(history, lineage),
            method_section(lineage),
            _samples(samples),
            _lint(lineage["lint"]),
            _table("Settings", config),
            _table("Where it comes from", _origin(lineage)),
            "</body></html>\n",
        ]
    )


def _metrics(lineage: Mapping[str, Any]) -> str:
    metrics, effect = lineage["metrics"], lineage["effect"]
    validation = metrics["validation_loss"]
    facts = {
        "Validation loss": "none" if validation is None else f"{validation:.4f}",
        "Training loss": f"{metrics['train_loss']:.4f}",
        "Epoch kept": f"{metrics['best_epoch']:g} of {lineage['config']['epochs']}",
        "Effect (mean KL)": f"{effect['mean_kl']:.2f} nats",
        "Tokens": f"{metrics['tokens']:,}",
        "Time": f"{metrics['seconds']:.0f} s",
        "Peak memory": f"{metrics['peak_memory'] / _MEBIBYTE:,.0f} MiB",
        "Device": metrics["device"],
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{cells}</dl>'


def _curves(history: Sequence[Point], lineage: Mapping[str, Any]) -> str:
    chart = loss_chart(history, lineage["metrics"]["best_step"])
    if not chart:
        return ""
    legend = "".join(
        f'<span><i style="background:var(--{colour})"></i>{text}</span>'
        for colour, text in (
            ("training", "training loss"),
            ("validation", "validation loss"),
            ("kept", "checkpoint kept"),
        )
    )
    return (
        f"<h2>{escape(loss_title(lineage))}</h2>"
        f'<div class="card">{chart}<div class="legend">{legend}</div></div>'
    )


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    cards = "".join(_sample(sample) for sample in samples)
    return (
        "<h2>Answers to validation rows, before and after</h2>"
        '<p class="soft">Greedy, 64 new tokens at most; none of these rows was trained on.</p>'
        f"{cards}"
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


def _lint(lint: Mapping[str, Any]) -> str:
    tokens = lint["tokens"]
    counted = (
        f"{tokens['total']:,} tokens, {tokens['trained']:,} of them trained on; "
        f"the longest row has {tokens['longest']}."
        if tokens
        else ""
    )
    rows = "".join(
        f'<tr><td class="{finding["severity"]}">{finding["severity"]}</td>'
        f"<td><code>{escape(finding['rule'])}</code></td>"
        f"<td>{escape(finding['reason'])}</td><td>{finding['count'] or ''}</td></tr>"
        for finding in lint["findings"]
    )
    found = (
        f"<table><tr><th>Severity</th><th>Rule</th><th>What</th><th>Rows</th></tr>{rows}</table>"
        if rows
        else "<p>The lint found nothing.</p>"
    )
    return f'<h2>Data</h2><p class="soft">{counted}</p>{found}'


def _origin(lineage: Mapping[str, Any]) -> dict[str, Any]:
    libraries = ", ".join(f"{name} {version}" for name, version in lineage["libraries"].items())
    return {
        "base revision": lineage["base"]["revision"],
        "base digest": lineage["base"]["digest"],
        "continued from": lineage["parent"],
        "data digest": lineage["dataset"]["digest"],
        "git commit": lineage["git_commit"],
        "libraries": libraries,
    }


def _table(title: str, facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<h2>{escape(title)}</h2><table>{rows}</table>"


def _shown(value: object) -> str:
    match value:
        case None | []:
            return "none"
        case True:
            return "yes"
        case False:
            return "no"
        case list():
            return ", ".join(str(item) for item in value)
        case dict():
            return ", ".join(f"{name} {_shown(item)}" for name, item in value.items()) or "none"
    return str(value)
