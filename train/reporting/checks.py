"""What was measured of the finished model, for the report: memorisation and forgetting."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from train.reporting.chart import NARROW, WIDE
from train.reporting.memorisation import Repeated
from train.reporting.told import forgetting, memorising

_ROW, _LEFT, _RIGHT, _TOP = 15, 26, 26, 10
_WIDE_TICKS, _NARROW_TICKS = 5, 3


def memorisation_section(lineage: Mapping[str, Any], worst: Sequence[Repeated]) -> str:
    """HTML; '' where it was not measured."""
    told = memorising(lineage)
    if told is None:
        return ""
    facts = lineage["memorisation"]
    about = (
        f"Greedy answers of {facts['most_new_tokens']} new tokens at most. Not counted: wording"
        " that several training rows share, and what was copied from the prompt."
    )
    examples = "".join(map(_example, worst))
    heading = "<h3>The worst, side by side</h3>" if worst else ""
    return (
        f"<h2>Memorisation</h2><p>{escape(told.words)}</p>"
        f'<p class="soft">{escape(about)}</p>{heading}{examples}'
    )


def _example(one: Repeated) -> str:
    kind = "a training prompt" if one.seen else "an unseen prompt"
    where = f"{one.tokens} tokens of row {one.source.number}, {one.own} of them in no other row"
    sides = "".join(
        f'<div class="{name}"><h3>{title}</h3><div class="text">{_marked(text, one.repeated)}'
        "</div></div>"
        for name, title, text in (
            ("tuned", f"Tuned, asked with {kind}", one.output),
            ("data", f"Training row {one.source.number}", one.answer),
        )
    )
    return (
        '<div class="card sample">'
        f'<div class="question text">{escape(one.row.question)}</div>'
        f'<p class="soft small">{escape(where)}</p><div class="answers">{sides}</div></div>'
    )


def _marked(text: str, stretch: str) -> str:
    """The text, escaped, with the stretch marked where it stands."""
    before, found, after = text.partition(stretch)
    if not found:
        return escape(text)
    return f"{escape(before)}<mark>{escape(found)}</mark>{escape(after)}"


def forgetting_section(lineage: Mapping[str, Any]) -> str:
    """HTML; '' where it was not measured."""
    told = forgetting(lineage)
    if told is None:
        return ""
    pairs = lineage["forgetting"]["by_passage"]
    legend = (
        '<div class="legend"><span><i class="base"></i>base</span>'
        '<span><i class="tuned"></i>tuned</span>'
        "<span>one line a passage, nats a token; further right is worse</span></div>"
    )
    return (
        f"<h2>Forgetting</h2><p>{escape(told.words)}</p>"
        f'<div class="card"><div class="wide">{_dumbbells(pairs, WIDE, _WIDE_TICKS)}</div>'
        f'<div class="narrow">{_dumbbells(pairs, NARROW, _NARROW_TICKS)}</div>{legend}</div>'
    )


def _dumbbells(pairs: Sequence[Sequence[float]], width: int, ticks: int) -> str:
    """An `<svg>`: for each passage a line from the base's loss to the tuned model's."""
    values = [value for pair in pairs for value in pair]
    low, high = min(values), max(values)
    span = max(high - low, 0.01)

    def x(value: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * (value - low) / span

    height = _TOP + _ROW * len(pairs) + 26
    bottom = _TOP + _ROW * len(pairs)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Loss by passage">']
    for tick in range(ticks):
        value = low + span * tick / (ticks - 1)
        parts.append(
            f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}"'
            f' y2="{bottom}"/><text x="{x(value):.1f}" y="{bottom + 18}"'
            f' text-anchor="middle">{value:.2f}</text>'
        )
    for at, (base, tuned) in enumerate(pairs):
        y = _TOP + _ROW * (at + 0.5)
        parts.append(
            f"<g><title>passage {at + 1}: base {base:.3f}, tuned {tuned:.3f}</title>"
            f'<line class="change" x1="{x(base):.1f}" x2="{x(tuned):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="base" cx="{x(base):.1f}" cy="{y}" r="4"/>'
            f'<circle class="tuned" cx="{x(tuned):.1f}" cy="{y}" r="4.5"/></g>'
        )
    return "".join([*parts, "</svg>"])
