"""Fifty readers and two writers on one registry."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_fifty_readers_while_others_promote(tmp_path: Path) -> None:
    """No `database is locked`, no half-done promotion seen, no promotion lost.

    `make bench BENCH=registry_crash` does it with 1,000 promotions.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub.reading", str(tmp_path), "50", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    outcome = json.loads(done.stdout)
    assert outcome["problems"] == []
    assert outcome["promotes"] == 60
    assert outcome["reads"] >= 50
    assert outcome["moves"] == 61  # and the one of the first publish
