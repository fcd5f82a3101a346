"""Whether a run that did not end well is the one that is asked for once more.

`hub train --resume` may go on with a run only where a new one would be the same: every setting that
is written now is what the run was begun with. What is not written now is as it was begun.
"""

from collections.abc import Mapping
from typing import Any

from hub.records import Run
from train.config import TrainConfig
from train.data.formats_files import kept_name
from train.sweepplan import parse_sweep


def differing(run: Run, asked: TrainConfig) -> list[str]:
    """A line for each written setting that is not the run's: `rank: 16, and it began with 8`.

    A run of a sweep is compared by what the sweep was asked for, and by its key and values.
    """
    sweep: Mapping[str, Any] = run.config.get("sweep") or {}
    began: Mapping[str, Any] = sweep.get("asked") or run.config
    written = asked.model_dump(mode="json", include=asked.model_fields_set - {"sweep"})
    if written.get("preset") == "auto":
        del written["preset"]
    for files in written.keys() & {"data", "heldout"}:
        written[files] = [kept_name(source) for source in getattr(asked, files)]
    lines = [
        f"{key}: {_shown(value)}, and it began with {_shown(began.get(key))}"
        for key, value in written.items()
        if value != _plain(began.get(key))
    ]
    return [*lines, *_other_sweep(sweep, asked.sweep)]


def _other_sweep(sweep: Mapping[str, Any], asked: str | None) -> list[str]:
    if asked is None:
        return [f"sweep: none, and it began with one of {sweep['key']}"] if sweep else []
    wanted = parse_sweep(asked)
    if not sweep:
        return [f"sweep: {asked}, and it began with none"]
    same = wanted.key == sweep["key"] and wanted.values in (None, tuple(sweep["values"]))
    values = ",".join(f"{value:g}" for value in sweep["values"])
    return [] if same else [f"sweep: {asked}, and it began with {sweep['key']}={values}"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
