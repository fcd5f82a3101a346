"""SIGKILL at random moments: nothing half done, nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_killed_processes_leave_a_whole_hub(tmp_path: Path) -> None:
    """What `tests.hub.crashing` says must hold, after each of 40 kills, one to three at a time.

    `make bench BENCH=registry_crash` does it 1,000 times.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub.crashing", str(tmp_path), "40", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    outcome = json.loads(done.stdout)
    assert outcome["problems"] == []
    assert outcome["kills"] == 40
    assert outcome["inside"] > 20  # the rest hit between two operations
