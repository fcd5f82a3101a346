"""What a method alone has to say, for the report: preferences before and after, or a factoring."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from train.presets import PREFERENCES

_WORST = 12


def loss_title(lineage: Mapping[str, Any]) -> str:
    """The curve's heading: dpo's and kto's losses are of their own, between 0 and about 1."""
    method = lineage["config"]["method"]
    if method in PREFERENCES:
        return f"{method.upper()}'s loss by step (logarithmic)"
    return "Loss by step, in nats a token (logarithmic)"


def method_section(lineage: Mapping[str, Any]) -> str:
    """HTML; '' for methods that have nothing to add."""
    if preference := lineage.get("preference"):
        return _preference(preference)
    if factored := lineage.get("factored"):
        return _factored(factored)
    return ""


def _preference(facts: Mapping[str, Any]) -> str:
    rows = [
        ("", "Before", "After"),
        ("Prefers the better answer", f"{facts['agreement_before']:.1%}",
         f"{facts['agreement_after']:.1%}"),
        ("Better minus worse, nats an answer", f"{facts['margin_before']:.2f}",
         f"{facts['margin_after']:.2f}"),
        ("Better answers, nats a token", f"{facts['better_before']:.2f}",
         f"{facts['better_after']:.2f}"),
        ("Reward accuracy", "", f"{facts['reward_accuracy']:.1%}"),
        ("Reward margin", "", f"{facts['reward_margin']:.3f}"),
    ]  # fmt: skip
    about = (
        f"On {facts['rows']} {facts['measured_on']}. Before is {facts['reference']}, which is also"
        f" the reference; beta is {facts['beta']:g}."
    )
    return f'<h2>Preferences</h2><p class="soft">{escape(about)}</p>{_table(rows)}'


def _factored(facts: Mapping[str, Any]) -> str:
    rows = [
        ("", "Relative error"),
        (f"All linear layers, at rank {facts['rank']}", f"{facts['relative_error']:.2%}"),
        *(
            (module, f"{error:.2%}")
            for module, error in sorted(facts["modules"].items(), key=lambda one: -one[1])[:_WORST]
        ),
    ]
    lines = [
        f"{facts['not_held_share']:.1%} of the squared difference is in {len(facts['not_held'])}"
        " weights that an adapter does not hold (embeddings, norms)."
    ]
    if losses := facts.get("loss"):
        lines.append(
            f"Loss on validation rows: base {losses['base']:.4f}, full {losses['full']:.4f},"
            f" adapter {losses['adapter']:.4f}."
        )
    about = escape(" ".join(lines))
    return (
        f'<h2>The full fine-tuning as an adapter</h2><p class="soft">{about}</p>{_table(rows)}'
        f'<p class="soft">The {_WORST} layers with the largest error; all are in the lineage.</p>'
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    return f'<table class="figures"><tr>{cells}</tr>{lines}</table>'
