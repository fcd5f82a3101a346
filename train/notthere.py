"""What a config names and is not there: told together with all else that is wrong with it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from train.data.formats_files import hub_name, source_name


def not_there(raw: Mapping[str, Any], bases: Collection[str]) -> list[str]:
    """Files and a base that are missing, a line each; what may be on the Hub is not asked for."""
    problems = []
    for key in ("data", "heldout"):
        named = raw.get(key) or ()
        for source in [named] if isinstance(named, str | Path) else named:
            if isinstance(source, str | Path) and _is_missing(source):
                problems.append(f"{key}: there is no file {source}")
    base = raw.get("base")
    if isinstance(base, str) and base not in bases and not _may_be_a_model(base):
        known = f"here are {', '.join(sorted(bases))}" if bases else "none is here yet"
        problems.append(f"base: there is no base '{base}' ({known})")
    return problems


def _is_missing(source: Path | str) -> bool:
    if hub_name(source) is not None or str(source) == "-":
        return False
    return not Path(source_name(source)).exists()


def _may_be_a_model(base: str) -> bool:
    return base.count("/") == 1 or Path(base).expanduser().is_dir()
