"""What a run's lineage says of it, in words: for the page, the terminal and whoever reads either.

Only facts come in, so nothing is measured here and no library is imported. Each is a `Told` or
None, where the lineage (of an older version, or with `report_prompts: 0`) does not hold it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hub.evaluation.statistics import wilson

State = Literal["good", "bad", "open"]

_KNOWN_VERDICTS: dict[str, State] = {
    "fits": "good",
    "overfits": "bad",
    "underfits": "bad",
}
_JOULES_PER_WH = 3600.0


@dataclass(frozen=True)
class Told:
    """A word or two, whether that is good, bad or neither, and the sentences behind it."""

    title: str
    state: State
    word: str
    words: str


def told(lineage: Mapping[str, Any]) -> list[Told]:
    """All that there is to say, most important first."""
    parts = (_learning(lineage), memorising(lineage), forgetting(lineage), _data(lineage))
    return [part for part in parts if part is not None]


def warned(lineage: Mapping[str, Any]) -> list[str]:
    """What there is to be warned of, a line each; the data's own warnings came before."""
    return [
        f"{one.title.lower()}: {one.word}. {one.words}"
        for one in told(lineage)
        if one.state == "bad" and one.title != "Data"
    ]


def _learning(lineage: Mapping[str, Any]) -> Told | None:
    facts = lineage.get("verdict")
    if not facts:
        return None
    kind = facts["kind"]
    return Told("Learning", _KNOWN_VERDICTS.get(kind, "open"), kind, facts["words"])


def memorising(lineage: Mapping[str, Any]) -> Told | None:
    facts = lineage.get("memorisation")
    if not facts:
        return None
    length = facts["passage_tokens"]
    unseen, trained = facts["unseen"], facts["trained"]
    bad = (
        facts["whole_answers"] > 0
        or trained["passages"] > 0
        or unseen["passages"] > facts["in_the_data"]
    )
    parts = []
    if unseen["outputs"]:
        parts.append(_unseen(facts, unseen))
    if trained["outputs"]:
        parts.append(
            f"Of {trained['outputs']} outputs to training prompts,"
            f" {_share(trained['passages'], trained['outputs'])} repeat {length} or more tokens of"
            " one training answer."
        )
    else:
        parts.append(
            f"No training answer has {length} tokens (the longest has {facts['longest_answer']}),"
            " so repeating one on its own prompt is the task itself and is not counted."
        )
    word = "repeats training text" if bad else "none found"
    measured = unseen["outputs"] or trained["outputs"]
    if not measured:
        return Told("Memorisation", "open", "not measured", " ".join(parts))
    return Told("Memorisation", "bad" if bad else "good", word, " ".join(parts))


def _unseen(facts: Mapping[str, Any], unseen: Mapping[str, Any]) -> str:
    length, rows = facts["passage_tokens"], unseen["outputs"]
    text = f"Of {rows} outputs to unseen prompts, "
    if facts["long_answers"]:
        text += (
            f"{_share(unseen['passages'], rows)} repeat {length} or more tokens of one training"
            f" answer (the data's own answers: {_share(facts['in_the_data'], rows)}), and "
        )
    return text + (
        f"{_share(facts['whole_answers'], rows)} are word for word the answer of one training row"
        f" ({facts['answer_tokens']} tokens or more) and not what the data says."
    )


def forgetting(lineage: Mapping[str, Any]) -> Told | None:
    facts = lineage.get("forgetting")
    if not facts:
        return None
    interval = f"{facts['low']:+.3f} to {facts['high']:+.3f}"
    words = (
        f"On {facts['passages']} passages of general text the loss went from"
        f" {facts['base_loss']:.3f} to {facts['tuned_loss']:.3f} nats a token (perplexity"
        f" {_figure(facts['base_perplexity'])} to {_figure(facts['tuned_perplexity'])}):"
        f" {facts['difference']:+.3f}, {facts['confidence']:.0%} interval {interval}."
    )
    if not facts["telling"]:
        return Told(
            "Forgetting",
            "open",
            "says little here",
            f"{words} The base itself hardly knows such text (guessing among all tokens costs"
            f" {facts['guessing_loss']:.2f}), so there was little to forget.",
        )
    if facts["low"] > 0:
        advice = " A lower learning_rate, fewer epochs or a lower rank forget less."
        return Told("Forgetting", "bad", "forgets", words + advice)
    if facts["high"] < 0:
        return Told("Forgetting", "good", "improved", words)
    return Told("Forgetting", "good", "none found", words)


def _data(lineage: Mapping[str, Any]) -> Told | None:
    lint = lineage.get("lint")
    if not lint:
        return None
    warned = sum(finding["severity"] == "warning" for finding in lint["findings"])
    word = f"{warned} warning{'' if warned == 1 else 's'}" if warned else "clean"
    summary = lint.get("summary") or f"findings: {len(lint['findings'])}"
    return Told("Data", "bad" if warned else "good", word, f"{summary}.")


def energy(lineage: Mapping[str, Any]) -> str:
    """`12.3 kJ (3.42 Wh)`, or that it is not known."""
    facts = lineage.get("energy") or {}
    if facts.get("joules") is None:
        return "not known"
    joules = facts["joules"]
    shown = f"{joules / 1e3:,.1f} kJ" if joules >= 1e3 else f"{joules:,.0f} J"
    return f"{shown} ({joules / _JOULES_PER_WH:,.3g} Wh)"


def energy_source(lineage: Mapping[str, Any]) -> str:
    """What counted it, and what more that counts; or why it is not known."""
    facts = lineage.get("energy") or {}
    if facts.get("joules") is None:
        return f"not known on this machine ({facts.get('reason') or 'it was not measured'})"
    text = f"counted by {facts['counter']}: all that ran there while this trained"
    return f"{text}, since it was resumed" if facts.get("resumed") else text


def _share(count: int, of: int) -> str:
    """`none (under 6%)`, `3 (5%)`: none of a few is no proof that there are none."""
    if count == 0:
        return f"none (likely under {wilson(0, of).high:.0%} of all)"
    return f"{count} ({count / of:.0%})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
