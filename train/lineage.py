"""Where an adapter comes from, as one JSON object: what a version published from a run carries.

Facts only, and none of this machine's paths: the card and the report are generated from it.
"""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from hub.records import Base, Version
from train.config import Settings
from train.data.rows import DataSet
from train.linting.findings import LintReport
from train.progress import TrainResult

_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
_LISTED_ROWS = 20


def lineage(
    settings: Settings,
    *,
    base: Base,
    dataset: DataSet,
    lint: LintReport,
    rows: tuple[int, int],
    parent: Version | None,
    result: TrainResult,
    effect: dict[str, Any],
) -> dict[str, Any]:
    """`rows` counts (training, validation) rows."""
    return {
        "kind": "trained",
        "method": settings.method,
        "base": {"name": base.name, "digest": base.digest, "revision": base.identity.revision},
        "parent": str(parent) if parent else None,
        "parent_digest": parent.digest if parent else None,
        "dataset": {
            "name": dataset.name,
            "digest": dataset.digest,
            "format": dataset.format,
            "rows": len(dataset),
            "training_rows": rows[0],
            "validation_rows": rows[1],
        },
        "lint": _without_folders(lint.to_json(max_rows=_LISTED_ROWS)),
        "config": portable(settings),
        "seed": settings.seed,
        "metrics": result.metrics(),
        "effect": effect,
        "libraries": libraries(),
        "git_commit": git_commit(),
    }


def portable(settings: Settings) -> dict[str, Any]:
    """The settings with files by name only: folders mean nothing on another machine."""
    facts = settings.to_json()
    for key in ("data", "heldout"):
        facts[key] = [Path(path).name for path in facts[key]]
    for key in ("asked", "force"):
        facts["sweep"].pop(key, None)
    for key in ("publish", "launch"):  # of this machine, and of who trained
        facts.pop(key)
    return facts


def _without_folders(value: Any) -> Any:
    """The lint's JSON with every `file` by its name alone."""
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: Path(entry).name if key == "file" else _without_folders(entry)
        for key, entry in value.items()
    }


def libraries() -> dict[str, str]:
    """Versions of Python, of this project and of what it trained with."""
    versions = {"python": sys.version.split()[0], "lora-loom": metadata.version("lora-loom")}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The commit of the current folder's repository; `+dirty` where tracked files differ."""
    if shutil.which("git") is None:
        return None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
