"""Files, jobs, events and checkpoints as the `openai` package reads them.

Times are whole seconds. Of OpenAI's metrics those are told that are known here: no accuracies.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from hub.files import StoredFile
from hub.home import Home
from hub.jobs import Job, JobEvent
from hub.ledger import Ledger
from hub.names import ORGANIZATION
from hub.records import RunEvent

T = TypeVar("T")


def page(
    found: Sequence[Any], limit: int, shown: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """A list object of what was asked for with one more than `limit`."""
    data = [shown(item) for item in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


def file_out(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": _seconds(file.created_at),
        "expires_at": None if file.expires_at is None else _seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def job_out(job: Job, ledger: Ledger) -> dict[str, Any]:
    """`auto` becomes what it meant once the training has begun."""
    asked = dict(job.hyperparameters)
    run = ledger.find_run(job.run) if job.run else None
    if run is not None:
        for key, name in (("n_epochs", "epochs"), ("batch_size", "batch_size"), ("beta", "beta")):
            if key in asked and run.config.get(name) is not None:
                asked[key] = run.config[name]
        if asked["learning_rate_multiplier"] == "auto":
            asked["learning_rate_multiplier"] = 1.0
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "model": job.model,
        "created_at": _seconds(job.created_at),
        "finished_at": None if job.finished_at is None else _seconds(job.finished_at),
        "fine_tuned_model": None if job.version is None else job.name(),
        "organization_id": job.namespace or ORGANIZATION,
        "status": job.status,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [] if job.result_file is None else [job.result_file],
        "trained_tokens": job.trained_tokens,
        "error": job.error,
        "seed": job.seed,
        "estimated_finish": _estimated_finish(job, ledger),
        "hyperparameters": {key: asked[key] for key in asked if key != "beta"},
        "method": {"type": job.method, job.method: {"hyperparameters": asked}},
        "integrations": [],
        "metadata": job.metadata,
        "user_provided_suffix": job.suffix,
    }


def _estimated_finish(job: Job, ledger: Ledger) -> int | None:
    """By the pace of the steps since the training last began; None without two of them."""
    if job.status != "running" or job.run is None:
        return None
    steps: list[RunEvent] = []
    for event in ledger.events(job.run):
        if event.kind == "started":
            steps = []
        elif event.kind == "step":
            steps.append(event)
    if len(steps) < 2 or steps[-1].data["step"] <= steps[0].data["step"]:
        return None
    first, last = steps[0], steps[-1]
    pace: float = (_seconds(last.at) - _seconds(first.at)) / (
        last.data["step"] - first.data["step"]
    )
    left: int = last.data["of"] - last.data["step"]
    return _seconds(last.at) + round(pace * left)


def event_out(event: JobEvent, home: Home) -> dict[str, Any]:
    """One of a job's events; files by the names that their sender gave."""
    level, kind, message, data = _said(event)
    folder = re.escape(str(home.files))
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": _seconds(event.at),
        "level": level,
        "message": re.sub(rf"{folder}/file-[a-z0-9]+/", "", message),
        "type": kind,
        "data": data,
    }


def _said(event: JobEvent) -> tuple[str, str, str, dict[str, Any]]:
    """Level, type, message and data."""
    data = event.data
    match event.kind:
        case "message":
            return data["level"], "message", data["message"], {}
        case "warning":
            return "warn", "message", data["message"], {}
        case "started":
            words = "goes on from its last checkpoint" if data["resumed"] else "begins"
            return "info", "message", f"Training {words}", {}
        case "checkpoint":
            return "info", "message", f"Checkpoint created at step {data['step']}", {}
        case "evaluated":
            told = {
                "step": data["step"],
                "valid_loss": data["loss"],
                "full_valid_loss": data["loss"],
            }
            message = f"Step {data['step']}: validation loss={_shown(data['loss'])}"
            return "info", "metrics", message, told
    told = {
        "step": data["step"],
        "total_steps": data["of"],
        "epoch": data["epoch"],
        "train_loss": data["loss"],
        "learning_rate": data["learning_rate"],
        "tokens_per_second": data["tokens_per_s"],
    }
    message = f"Step {data['step']}/{data['of']}: training loss={_shown(data['loss'])}"
    return "info", "metrics", message, told


def checkpoints_of(job: Job, ledger: Ledger) -> list[dict[str, Any]]:
    """Newest first, one a step: what a resumed training wrote again is told once."""
    if job.run is None:
        return []
    found: dict[int, dict[str, Any]] = {}
    train_loss: dict[int, float | None] = {}
    for event in ledger.events(job.run):
        step = event.data.get("step")
        if event.kind == "step" and step is not None:
            train_loss[step] = event.data["loss"]
        if event.kind == "checkpoint" and step is not None:
            found[step] = _checkpoint(job, event, train_loss.get(step))
    return [found[step] for step in sorted(found, reverse=True)]


def _checkpoint(job: Job, event: RunEvent, train_loss: float | None) -> dict[str, Any]:
    step, loss = event.data["step"], event.data["loss"]
    known = {"step": step, "train_loss": train_loss, "valid_loss": loss, "full_valid_loss": loss}
    return {
        "id": f"ftckpt-{event.id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(event.at),
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": job.name(step=step),
        "step_number": step,
        "metrics": {name: value for name, value in known.items() if value is not None},
    }


def _shown(loss: float | None) -> str:
    return "unknown" if loss is None else f"{loss:.4f}"


def _seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())
