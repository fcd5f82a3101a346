"""`make bench BENCH=training`: is tuned better than base, and what does `hub train` cost?

Both example tasks with three seeds each. `hub train` runs as a process, from the rows to a
published version, beside a plain TRL script (`benchmarks.plain_trl`) on the same base, rows,
settings and seed, which ends with an adapter's folder; the two take turns in being first. Seconds
are those of the whole process and, apart, of what both have in common: from the rows to the last
checkpoint, with the base loaded and the rows made tokens on the way. Memory is VmHWM, summed over
the processes.

Quality is the task's own metric on the held-out rows, greedy answers, paired with the base's; the
interval of the difference is the gate's. The answers are made in process, as those in a run's
report are; `BENCH=parity` shows that the server gives the same.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.adapters import home_on
from benchmarks.prepared import ROOT, base_folder
from benchmarks.processes import descendants, peak_resident_mib
from benchmarks.report import Bar, exactly, short_asked, write
from hub.cli.output import print_table
from hub.evaluation.metrics import METRICS, choose_metric
from hub.evaluation.statistics import compare
from hub.home import Home
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store
from train.data.formats import read_dataset
from train.data.near import near_key
from train.data.rows import DataSet
from train.data.split import split
from train.trainers.checkpoints import ADAPTER_WEIGHTS

TASKS = ("support", "payments")
SEEDS = (0, 1, 2)
HUB, PLAIN = "hub train", "plain TRL"
MAX_TOKENS = 60  # the longest right answer has fewer
# As `hub train` has it: else what is compared, where other work is going on, is how threads wait.
_WAITING = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}
_LOOK_S = 0.25


@dataclass(frozen=True)
class Spent:
    """What a whole process took, its children included."""

    seconds: float
    processor_seconds: float
    peak_memory_mib: float
    said: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """One adapter, in `folder`; `said` is what its process told of the training itself."""

    way: str
    task: str
    seed: int
    folder: Path
    spent: Spent
    training_seconds: float
    steps: int
    validation_loss: float


def main() -> int:
    short = short_asked()
    base = base_folder()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Home(Path(folder) / "home"), base, Path(folder))
        trained = []
        for seed in SEEDS[: 1 if short else None]:
            for number, task in enumerate(TASKS):
                pair = [work.by_hub, work.plainly]
                for train in pair if (seed + number) % 2 == 0 else reversed(pair):
                    trained.append(train(task, seed))
                    print(_line(trained[-1]), file=sys.stderr)
        figures = [figure for task in TASKS for figure in judged(base, task, trained)]
    outcome = write("training", bars(figures), [*figures, *ratios(trained)], keep=not short)
    print()
    print_table(
        ["hub train / plain TRL, of pairs", "median>", "least>", "most>"],
        [[r["what"], *(f"{r[key]:.3g}" for key in ("median", "least", "most"))]
         for r in ratios(trained)],
    )  # fmt: skip
    return outcome


class Work:
    """Trains in a hub of its own, or beside it."""

    def __init__(self, home: Home, base: Path, scratch: Path) -> None:
        self._home, self._base, self._scratch = home, base, scratch
        home_on(home, base)
        self._settings = {task: self._settled(task) for task in TASKS}

    def by_hub(self, task: str, seed: int) -> Trained:
        name = f"{task}-{seed}"
        spent = measured(
            [*_hub("train", name, *_rows(task)), "--seed", str(seed), "--json"], self._home.root
        )
        with Registry.open(self._home) as registry:
            folder = Store.of(registry).folder(registry.resolve(AdapterRef(name)))
        return _trained(HUB, task, seed, folder, spent, spent.said["metrics"])

    def plainly(self, task: str, seed: int) -> Trained:
        out = self._scratch / f"plain-{task}-{seed}"
        settings = {
            **self._settings[task],
            "seed": seed,
            "base": str(self._base),
            "train": str(self._scratch / f"{task}-train.jsonl"),
            "validation": str(self._scratch / f"{task}-validation.jsonl"),
            "out": str(out),
        }
        told = out.with_suffix(".json")
        told.write_text(json.dumps(settings))
        # A cache of its own: else the second seed finds the first one's rows made tokens.
        environment = {**os.environ, **_WAITING, "HF_DATASETS_CACHE": f"{out}-cache"}
        command = [sys.executable, "-m", "benchmarks.plain_trl", str(told)]
        spent = measured(command, ROOT, environment)
        return _trained(PLAIN, task, seed, out, spent, spent.said)

    def _settled(self, task: str) -> dict[str, Any]:
        """The settings that `hub train` would go by; the rows, divided as it does, are written."""
        command = _hub("train", task, *_rows(task), "--print-config")
        said = subprocess.run(command, cwd=self._home.root, check=True, capture_output=True)
        settings: dict[str, Any] = yaml.safe_load(said.stdout)
        dataset = read_dataset((ROOT / "examples" / task / "train.jsonl",))
        sides = split(dataset, validation=settings["validation"], key=near_key(dataset.rows))
        for side, rows in zip(("train", "validation"), sides, strict=True):
            _write_rows(self._scratch / f"{task}-{side}.jsonl", rows)
        return settings


def measured(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Spent:
    """Run it to its end; the JSON at the end of its stdout is what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    peaks: dict[int, float] = {}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=errors
        )
        while True:
            for pid in (process.pid, *descendants(process.pid)):
                peaks[pid] = peak_resident_mib(pid) or peaks.get(pid, 0.0)
            try:
                process.wait(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                continue
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{errors.read()}")
        output.seek(0)
        said = output.read()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    return Spent(seconds, used, sum(peaks.values()), _last_json(said))


def judged(base: Path, task: str, trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """For the base and each adapter of the task: how often right, and how much more than it."""
    from train.runtime import ready

    ready(quantize=False)
    from train.reporting.answering import answers
    from train.templates.tokens import ChatTokenizer
    from train.trainers.loading import load_base, load_tuned

    chat = ChatTokenizer.load(str(base))
    rows = read_dataset((ROOT / "examples" / task / "heldout.jsonl",)).rows
    name = choose_metric([row.answer for row in rows])

    def right(model: Any) -> list[int]:
        said = answers(model, chat, rows, MAX_TOKENS)
        return [METRICS[name](text, row.answer) for text, row in zip(said, rows, strict=True)]

    before = right(load_base(str(base)).eval())
    figures: list[dict[str, Any]] = [
        {"way": "base", "task": task, "metric": name, "right": sum(before), "of": len(rows)}
    ]
    for one in sorted((t for t in trained if t.task == task), key=lambda t: (t.way, t.seed)):
        after = right(load_tuned(str(base), one.folder))
        paired = compare(before, after)
        figures.append(
            {
                "way": one.way, "task": task, "metric": name, "seed": one.seed,
                "right": sum(after), "of": len(rows), "more": paired.difference,
                "low": paired.difference_interval.low, "high": paired.difference_interval.high,
                "seconds": one.spent.seconds, "training_seconds": one.training_seconds,
                "processor_seconds": one.spent.processor_seconds,
                "peak_memory_mib": one.spent.peak_memory_mib, "steps": one.steps,
                "validation_loss": one.validation_loss, "weights": _digest(one.folder),
            }
        )  # fmt: skip
    return figures


def bars(figures: Sequence[dict[str, Any]]) -> list[Bar]:
    ours = [figure for figure in figures if figure["way"] == HUB]
    better = sum(figure["low"] > 0 for figure in ours)
    least = min(figure["low"] for figure in ours)
    return [
        exactly(f"trainings better than base, of {len(ours)}", better, "", len(ours)),
        Bar("least low end of tuned less base, 95%", round(least, 4), "", "> 0", least > 0),
    ]


def ratios(trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """`hub train` / plain TRL, of each task and seed; no bar, since the issue sets none."""

    def each(one: Trained) -> dict[str, float]:
        return {
            "whole process, seconds": one.spent.seconds,
            "training alone, seconds": one.training_seconds,
            "processor seconds": one.spent.processor_seconds,
            "peak memory": one.spent.peak_memory_mib,
        }

    ours, theirs = (
        {(t.task, t.seed): each(t) for t in trained if t.way == way} for way in (HUB, PLAIN)
    )
    pairs = [(ours[key], theirs[key]) for key in ours]
    found = []
    for what in pairs[0][0]:
        values = [our[what] / their[what] for our, their in pairs]
        found.append(
            {"what": what, "median": median(values), "least": min(values), "most": max(values)}
        )
    return found


def _trained(
    way: str, task: str, seed: int, folder: Path, spent: Spent, said: dict[str, Any]
) -> Trained:
    return Trained(
        way, task, seed, folder, spent, said["seconds"], said["steps"], said["validation_loss"]
    )


def _digest(adapter: Path) -> str:
    """Whether two adapters have the same bytes is to be seen."""
    return hashlib.sha256((adapter / ADAPTER_WEIGHTS).read_bytes()).hexdigest()[:12]


def _hub(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hub", *arguments]


def _rows(task: str) -> tuple[str, ...]:
    folder = ROOT / "examples" / task
    return ("--data", str(folder / "train.jsonl"), "--heldout", str(folder / "heldout.jsonl"))


def _write_rows(path: Path, rows: DataSet) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows.rows:
            messages = [{"role": said.role, "content": said.content} for said in row.messages]
            file.write(json.dumps({"messages": messages}) + "\n")


def _last_json(said: str) -> dict[str, Any]:
    """The JSON object that ends it: indented, or its last line."""
    start = 0 if said.startswith("{\n") else said.rstrip().rfind("\n") + 1
    found: dict[str, Any] = json.loads(said[start:])
    return found


def _line(one: Trained) -> str:
    spent = one.spent
    return (
        f"{one.way}, {one.task}, seed {one.seed}: {spent.seconds:.1f} s, of them "
        f"{one.training_seconds:.1f} training, {spent.peak_memory_mib:.0f} MiB, {one.steps} steps"
    )


if __name__ == "__main__":
    sys.exit(main())
