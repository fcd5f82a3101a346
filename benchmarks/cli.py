"""`make bench BENCH=cli`: how long light commands take, beside `python -c pass`.

Whole processes, interleaved, so that a machine that slows down slows all of them.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.report import at_most, write

RUNS = 25
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "hub --help": [str(Path(sys.executable).parent / "hub"), "--help"],
    "hub ls": [str(Path(sys.executable).parent / "hub"), "ls"],
}


def main() -> int:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([*COMMANDS["hub ls"][:1], "init"], cwd=home, check=True, capture_output=True)
        for run in range(RUNS + 1):
            for name, command in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run(command, cwd=home, check=True, capture_output=True)
                if run:  # the first round fills the file cache
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: median(values) for name, values in seconds.items()}
    return write(
        "cli",
        [
            at_most("hub --help, median", medians["hub --help"], "s", 0.3),
            at_most("hub ls, median", medians["hub ls"], "s", 0.5),
        ],
        [
            {"command": name, "median_s": medians[name], "min_s": min(v), "max_s": max(v)}
            for name, v in seconds.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
