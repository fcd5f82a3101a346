"""A run's events as lines, and following them from another process as they come."""

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import printable_lines

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Run, RunEvent
    from hub.registry import Registry

_LOOK_S = 0.3
# How long a finished run's version is waited for; checks at publish load the base.
_PUBLISH_S = 60.0
_STATUS = {"finished": 0, "cancelled": 130, "paused": 130}


def status_of(state: str) -> int:
    """The exit status that tells how a run ended."""
    return _STATUS.get(state, 1)


def follow(registry: "Registry", home: "Home", run_id: str, *, as_json: bool) -> str:
    """Print what has happened and what happens, until the run has ended; its state then."""
    from hub.run_state import run_state

    seen = 0
    while True:
        # The state first: what was written before it ended is then among the events.
        run = registry.ledger.run(run_id)
        state = run_state(run, home)
        seen = _print_new(registry, run_id, seen, as_json=as_json)
        if state != "running":
            break
        time.sleep(_LOOK_S)
    if state == "finished":
        _follow_publishing(registry, run, seen, as_json=as_json)
    return state


def _follow_publishing(registry: "Registry", run: "Run", seen: int, *, as_json: bool) -> None:
    """The version that the same process makes of the run, where that still works on it."""
    from hub.ledger import process_lives

    if not run.config.get("publish", True) or is_published(registry, run):
        return
    deadline = time.monotonic() + _PUBLISH_S
    while (
        process_lives(run.pid) and time.monotonic() < deadline and not is_published(registry, run)
    ):
        time.sleep(_LOOK_S)
    _print_new(registry, run.id, seen, as_json=as_json)


def is_published(registry: "Registry", run: "Run") -> bool:
    """Whether what a run made was published, as its events have it."""
    return any(event.kind == "published" for event in registry.ledger.events(run.id))


def is_done(registry: "Registry", run: "Run") -> bool:
    """Whether nothing is left to do of a run, and of the sweep that it belongs to."""
    sweep = run.config.get("sweep") or {}
    together = [run]
    if sweep:
        together = [one for one in registry.ledger.runs(run.adapter)
                    if (one.config.get("sweep") or {}).get("id") == sweep["id"]]  # fmt: skip
    if run.config.get("publish", True):
        return any(is_published(registry, one) for one in together)
    ended = sum(one.status in ("finished", "failed") for one in together)
    return ended == len(sweep["values"]) if sweep else run.status == "finished"


def _print_new(registry: "Registry", run_id: str, seen: int, *, as_json: bool) -> int:
    for event in registry.ledger.events(run_id, after=seen):
        click.echo(json.dumps(asdict(event)) if as_json else event_line(event))
        seen = event.id
    return seen


def event_line(event: "RunEvent") -> str:
    """`14:03:22  step        12/120  loss 1.234  …`, the time being UTC."""
    words = printable_lines(_words(event.kind, event.data))
    return f"{event.at[11:19]}  {event.kind:<10}  {words}".rstrip()


def _words(kind: str, data: dict[str, Any]) -> str:
    match kind:
        case "started":
            return "again, from its last checkpoint" if data.get("resumed") else ""
        case "step":
            return _step(data)
        case "evaluated":
            return f"step {data['step']}  validation loss {_number(data['loss'])}"
        case "checkpoint" | "cancelled" | "paused":
            return f"step {data['step']}" if data.get("step") is not None else ""
        case "published":
            return str(data.get("version") or data.get("base") or "")
        case "warning":
            return str(data.get("message", ""))
        case "failed":
            return str(data.get("error", ""))
    return json.dumps(data) if data else ""


def _step(data: dict[str, Any]) -> str:
    parts = [f"{data['step']}/{data['of']}"]
    if data.get("loss") is not None:
        parts.append(f"loss {_number(data['loss'])}")
    if data.get("learning_rate") is not None:
        parts.append(f"rate {data['learning_rate']:.2e}")
    if data.get("tokens_per_s") is not None:
        parts.append(f"{data['tokens_per_s']:,.0f} tokens/s")
    return "  ".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
