"""Feedback to data set: edits, thumbs and votes become rows to train on.

    sft   an edited answer, or one with a thumb up, is what the model should have said
    dpo   an edit is preferred to what it corrects, a vote's winner to its loser; ties make no pair

Only the newest edit or thumb of an interaction counts. A row whose prompt stands in an evaluation
set is left out, so that no later version is trained on what it will be judged by. Each row says
which interaction, version and feedback it comes from.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hub.errors import InvalidData
from hub.feedback.interactions import Feedback, Interaction, InteractionLog
from hub.records import Evaluation


@dataclass(frozen=True)
class Export:
    """The rows, and how many candidates were left out for which reason."""

    rows: tuple[dict[str, Any], ...]
    duplicates: int
    in_evaluation: int


def export_rows(
    log: InteractionLog, *, format: str, adapter: str | None, evaluated: frozenset[str]
) -> Export:
    """Make rows from the log; `adapter` limits them to answers of one adapter's versions.

    `evaluated` holds `prompt_key`s of evaluation sets.

    Raises:
        InvalidData: when there is nothing to export.
    """
    candidates = list(_sft(log, adapter) if format == "sft" else _dpo(log, adapter))
    rows: dict[str, dict[str, Any]] = {}
    in_evaluation = 0
    for row in candidates:
        prompt = row["messages"][:-1] if format == "sft" else row["prompt"]
        if prompt_key(prompt) in evaluated:
            in_evaluation += 1
            continue
        content = {key: value for key, value in row.items() if key != "source"}
        rows.setdefault(json.dumps(content, sort_keys=True), row)
    if not rows:
        about = f" on answers of '{adapter}'" if adapter else ""
        kept_out = f" ({in_evaluation} rows stand in an evaluation set)" if in_evaluation else ""
        raise InvalidData(
            f"there is no feedback{about} to export as {format}{kept_out}",
            hint="Give some: in the console, by `hub feedback`, or POST /hub/feedback.",
        )
    duplicates = len(candidates) - in_evaluation - len(rows)
    return Export(tuple(rows.values()), duplicates, in_evaluation)


def prompt_key(messages: list[dict[str, Any]]) -> str:
    """The same for prompts that differ only in case, white space or punctuation."""
    text = "\n".join(
        "".join(c if c.isalnum() else " " for c in str(message.get("content", "")).casefold())
        for message in messages
        if message.get("role") == "user"
    )
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:32]


def evaluated_prompts(evaluations: list[Evaluation]) -> frozenset[str]:
    return frozenset(key for entry in evaluations for key in entry.result.get("prompts", ()))


def _sft(log: InteractionLog, adapter: str | None) -> Iterator[dict[str, Any]]:
    for interaction, feedback in _judged(log, adapter):
        answer = feedback.edit if feedback.kind == "edit" else interaction.answer
        if answer and (feedback.kind == "edit" or feedback.thumb == 1):
            said = {"role": "assistant", "content": answer}
            yield {
                "messages": [*_messages(interaction), said],
                "source": _source(interaction, feedback.kind, feedback.id),
            }


def _dpo(log: InteractionLog, adapter: str | None) -> Iterator[dict[str, Any]]:
    for interaction, feedback in _judged(log, adapter):
        if feedback.kind == "edit" and feedback.edit != interaction.answer:
            source = _source(interaction, "edit", feedback.id)
            yield _pair(interaction, str(feedback.edit), interaction.answer, source)
    for comparison in log.comparisons():
        sides = (comparison.left_interaction, comparison.right_interaction)
        if comparison.vote not in ("left", "right") or None in sides:
            continue
        left, right = (log.get(str(side)) for side in sides)
        winner, loser = (left, right) if comparison.vote == "left" else (right, left)
        about = {_name(winner.adapter), _name(loser.adapter)}
        if winner.answer != loser.answer and (adapter is None or adapter in about):
            source = _source(winner, "vote", comparison.id) | {"loser": loser.adapter}
            yield _pair(winner, winner.answer, loser.answer, source)


def _judged(log: InteractionLog, adapter: str | None) -> Iterator[tuple[Interaction, Feedback]]:
    """Each complete chat answer with the newest edit or thumb on it; edits outrank thumbs."""
    newest: dict[str, Feedback] = {}
    for feedback in log.feedback():
        before = newest.get(feedback.interaction_id)
        if feedback.kind == "edit" or (
            feedback.kind == "thumb" and (before is None or before.kind == "thumb")
        ):
            newest[feedback.interaction_id] = feedback
    for interaction_id, feedback in newest.items():
        interaction = log.get(interaction_id)
        usable = interaction.status == "complete" and interaction.endpoint == "chat"
        if usable and (adapter is None or _name(interaction.adapter) == adapter):
            yield interaction, feedback


def _pair(
    interaction: Interaction, chosen: str, rejected: str, source: dict[str, Any]
) -> dict[str, Any]:
    return {
        "prompt": _messages(interaction),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "source": source,
    }


def _messages(interaction: Interaction) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(interaction.request)["messages"]
    return messages


def _source(interaction: Interaction, kind: str, feedback: object) -> dict[str, Any]:
    return {
        "interaction": interaction.id,
        "version": interaction.adapter,
        "kind": kind,
        "feedback": feedback,
    }


def _name(version: str) -> str:
    return version.partition("@")[0]
