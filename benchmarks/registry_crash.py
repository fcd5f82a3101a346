"""`make bench BENCH=registry_crash`: 1,000 processes killed at work on one registry.

Children publish, promote, roll back, set and remove aliases, delete and sweep; each dies by SIGKILL
at a random moment, often while others work. `tests/hub/crashing.py` says what must hold after each
kill; the bars count what did not. The same is done to a registry whose transactions are taken away:
that the harness finds its damage shows that it would find ours. Last, 50 processes read while two
others promote 1,000 times.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.report import Bar, at_least, at_most, write
from hub.home import Home
from tests.hub.crashing import Crashes, Outcome, without_transactions
from tests.hub.reading import Readings, read_while_promoting

KILLS = 1_000
READERS = 50
PROMOTES = 1_000
SEED = 20261122
# The steps that are printed; the rest is in the results.
SHOWN = 12


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ours = Crashes(Home(root / "ours" / "home"), SEED).run(KILLS)
        for problem in (*ours.problems, *ours.stories):
            print(problem, file=sys.stderr)
        with without_transactions():
            control = Crashes(Home(root / "control" / "home"), SEED).run(KILLS)
        readings = read_while_promoting(
            Home(root / "readers" / "home"), readers=READERS, promotes=PROMOTES
        )
        for problem in readings.problems:
            print(problem, file=sys.stderr)
    print("kills hit most often in (last step begun):", file=sys.stderr)
    for step, count in ours.steps.most_common(SHOWN):
        print(f"  {count:>4}  {step}", file=sys.stderr)
    return write("registry_crash", bars(ours, control, readings), figures(ours, control, readings))


def bars(ours: Outcome, control: Outcome, readings: Readings) -> list[Bar]:
    return [
        at_least("kills", ours.kills, "", KILLS),
        at_least("kills inside an operation", ours.inside, "", KILLS / 2),
        at_most("broken after a kill (doctor, production, history)", len(ours.problems), "", 0),
        at_least("found in a registry without transactions", len(control.problems), "", 1),
        at_least("promotions beside 50 readers", readings.promotes, "", PROMOTES),
        at_most("`database is locked`, half-done states seen", len(readings.problems), "", 0),
    ]


def figures(ours: Outcome, control: Outcome, readings: Readings) -> list[dict[str, object]]:
    inside = Counter[str]()
    for step, count in ours.steps.items():
        inside[step.split(":")[0]] += count
    return [
        {
            "what": "killed",
            "seconds": round(ours.seconds, 1),
            "operations_begun": dict(ours.operations),
            "acknowledged": dict(ours.acknowledged),
            "refused": dict(ours.refused),
            "killed_inside": dict(inside),
            "with_leftovers_for_gc": ours.leftovers,
            "versions_published": ours.versions,
            "alias_moves": ours.moves,
        },
        {"what": "where the kills hit", "steps": dict(ours.steps.most_common())},
        {
            "what": "without transactions",
            "kills_until_found": control.kills,
            "found": control.problems[:3],
        },
        {"what": "readers", **vars(readings)},
    ]


if __name__ == "__main__":
    sys.exit(main())
