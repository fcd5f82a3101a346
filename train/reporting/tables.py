"""What a run was given, what it took and where it comes from: the report's figures and tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

from train.reporting.told import energy, energy_source

_MEBIBYTE = 1 << 20


def cost_section(lineage: Mapping[str, Any]) -> str:
    metrics, effect = lineage["metrics"], lineage["effect"]
    validation = metrics["validation_loss"]
    facts = {
        "Validation loss": "none" if validation is None else f"{validation:.4g}",
        "Training loss": f"{metrics['train_loss']:.4g}",
        "Epoch kept": f"{metrics['best_epoch']:g} of {lineage['config']['epochs']}",
        "Effect (mean KL)": f"{effect['mean_kl']:.2g} nats",
        "Tokens": f"{metrics['tokens']:,}",
        "Time": f"{metrics['seconds']:.0f} s",
        "Peak memory": f"{metrics['peak_memory'] / _MEBIBYTE:,.0f} MiB",
        "Energy": energy(lineage),
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return (
        f'<h2>What it took</h2><dl class="facts">{cells}</dl>'
        f'<p class="soft small">{escape(_notes(lineage))}</p>'
    )


def _notes(lineage: Mapping[str, Any]) -> str:
    parts = ", ".join(
        f"{lineage[name]['seconds']:.1f} s {words}"
        for name, words in (
            ("samples", "for answers"),
            ("memorisation", "for memorisation"),
            ("forgetting", "for forgetting"),
        )
        if lineage.get(name)
    )
    measured = f" What is measured after training took {parts}." if parts else ""
    return f"On {lineage['metrics']['device']}.{measured} Energy: {energy_source(lineage)}."


def lint_section(lint: Mapping[str, Any]) -> str:
    tokens = lint["tokens"]
    counted = (
        f"{tokens['total']:,} tokens, {tokens['trained']:,} of them trained on; "
        f"the longest row has {tokens['longest']}."
        if tokens
        else ""
    )
    rows = "".join(
        f'<tr><td class="{escape(finding["severity"])}">{escape(finding["severity"])}</td>'
        f"<td><code>{escape(finding['rule'])}</code></td>"
        f"<td>{escape(finding['reason'])}</td><td>{finding['count'] or ''}</td></tr>"
        for finding in lint["findings"]
    )
    found = (
        f'<table class="lint"><tr><th>Severity</th>'
        f"<th>Rule</th><th>What</th><th>Rows</th></tr>{rows}</table>"
        if rows
        else "<p>The lint found nothing.</p>"
    )
    return f'<h2>Data</h2><p class="soft">{counted}</p>{found}'


def settings_section(config: Mapping[str, Any]) -> str:
    return _table("Settings", config)


def origin_section(lineage: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in lineage["libraries"].items())
    facts = {
        "base revision": lineage["base"]["revision"],
        "base digest": lineage["base"]["digest"],
        "continued from": lineage["parent"],
        "data digest": lineage["dataset"]["digest"],
        "git commit": lineage["git_commit"],
        "libraries": libraries,
    }
    return _table("Where it comes from", facts)


def _table(title: str, facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<h2>{escape(title)}</h2><table>{rows}</table>"


def _shown(value: object) -> str:
    match value:
        case None | [] | "":
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
