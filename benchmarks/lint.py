"""`make bench BENCH=lint`: 100,000 rows of 100 words linted, beside datasketch used plainly.

The whole `hub data lint` process is measured, on two cores: reading, all rules, the report. Planted
are 3,000 near duplicates (one, two or three of a question's 60 words replaced), 1,000 exact ones,
and 1,000 decoys of which a third of the words are others. The baseline looks for near duplicates
only, as datasketch's README does it: one MinHash of 128 permutations a row over its three-word
shingles, and MinHashLSH at the same threshold, without an exact comparison after it.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import at_least, at_most, write
from train.data.near import THRESHOLD

ROWS = 100_000
PLANTED = 1_000  # of each kind
ASKED, OPENING, ANSWERED = 60, 12, 40
REPLACED = {"exact": 0, "1 word": 1, "2 words": 2, "3 words": 3, "decoy": 20}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        planted = write_rows(path)
        seconds, used, memory, found = linted(path)
        plain_seconds, plain_found = plain(path)
    near = {row for name in ("1 word", "2 words", "3 words") for row in planted[name]}
    alarms = found["near-duplicate"] - near
    return write(
        "lint",
        [
            at_most(f"hub data lint, {ROWS:,} rows on 2 cores", seconds, "s", 60),
            at_least("near duplicates found", share(found["near-duplicate"], near), "", 0.99),
            at_most("rows called near duplicates that are none", len(alarms), "rows", 0),
            at_least("exact duplicates found", share(found["exact-duplicate"],
                                                     planted["exact"]), "", 1),
        ],
        [
            {
                "way": "hub data lint",
                "seconds": seconds,
                "processor_seconds": used,
                "peak_memory_gib": memory,
                **{name: share(found["near-duplicate"], rows) for name, rows in planted.items()},
            },
            {
                "way": "datasketch alone, near duplicates only",
                "seconds": plain_seconds,
                **{name: share(plain_found, rows) for name, rows in planted.items()},
            },
        ],
    )  # fmt: skip


def write_rows(path: Path) -> dict[str, set[int]]:
    """Random words with a natural spread of frequencies; for each planted kind its row numbers."""
    chance = random.Random(1)
    syllables = [a + b for a in "bcdfglmnprstv" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(30_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    count = ROWS - PLANTED * len(REPLACED)
    # Questions begin alike, as people's do.
    openings = [chance.choices(words, k=OPENING) for _ in range(40)]
    rows = [
        (
            chance.choice(openings) + chance.choices(words, weights, k=ASKED - OPENING),
            chance.choices(words, weights, k=ANSWERED),
        )
        for _ in range(count)
    ]
    kinds = [""] * count
    sources = iter(chance.sample(range(count), PLANTED * len(REPLACED)))
    for name, replaced in REPLACED.items():
        for _ in range(PLANTED):
            asked, answered = rows[next(sources)]
            copy = list(asked)
            for at in chance.sample(range(ASKED), replaced):
                copy[at] = chance.choice(words)
            rows.append((copy, answered))
            kinds.append(name)
    # Copies anywhere after their originals.
    order = sorted(range(ROWS), key=lambda at: chance.random() * ROWS if at < count else ROWS + at)
    with path.open("w", encoding="utf-8") as file:
        for at in order:
            user, assistant = (" ".join(part).capitalize() for part in rows[at])
            messages = [
                {"role": "user", "content": f"{user}?"},
                {"role": "assistant", "content": f"{assistant}."},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    planted: dict[str, set[int]] = {name: set() for name in REPLACED}
    for number, at in enumerate(order, start=1):
        if kinds[at]:
            planted[kinds[at]].add(number)
    return planted


def linted(path: Path) -> tuple[float, float, float, dict[str, set[int]]]:
    """`hub data lint` on two cores: seconds, those of processors, peak GiB, and rows by rule."""
    command = [sys.executable, "-m", "hub", "data", "lint", str(path), "--json"]
    cores = sorted(os.sched_getaffinity(0))[:2]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, check=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, set[int]] = {"near-duplicate": set(), "exact-duplicate": set()}
    for finding in json.loads(done.stdout)["findings"]:
        rows = found.setdefault(finding["rule"], set())
        rows |= {place["row"] for place in finding["rows"]}
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, found


def plain(path: Path) -> tuple[float, set[int]]:
    """Seconds, and the rows with an earlier one that LSH calls alike."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    started = time.perf_counter()
    index: Any = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    found = set()
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            words = json.loads(line)["messages"][0]["content"].lower().split()
            triples = zip(words, words[1:], words[2:], strict=False)
            sketch = MinHash(num_perm=128)
            sketch.update_batch(" ".join(triple).encode() for triple in triples)
            if index.query(sketch):
                found.add(number)
            index.insert(number, sketch)
    return time.perf_counter() - started, found


def share(found: set[int], wanted: set[int]) -> float:
    return len(found & wanted) / len(wanted)


if __name__ == "__main__":
    sys.exit(main())
