"""`make bench BENCH=resume`: trainings killed with SIGKILL and resumed, compared byte by byte.

Each run is a real `hub train` in a hub of its own, killed once to three times: at any moment from
the start of its process on, while it trains, while it writes a checkpoint, after the training
(where the result is checked, reported and published). `hub runs resume` goes on each time; a
process that dies before it has written its run is started again. What is published must be what a
run that nobody killed has published: the digest, the weights and the config, as version 1.

That the comparison can fail is shown by a run with another seed. The baseline is a plain TRL script
(`benchmarks.plain_trl`) killed as it writes a checkpoint and started again with
`resume_from_checkpoint`, which takes the newest folder for whole. Steps done again are those that
the run's events tell of, which come once a second: the true number is up to a second's steps more.
"""

import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.adapters import home_on
from benchmarks.killing import KINDS, Life, Moment, draw, live, unmarked
from benchmarks.prepared import ROOT, base_folder
from benchmarks.report import Bar, at_least, exactly, short_asked, write
from hub.home import Home
from hub.names import AdapterRef
from hub.records import Run
from hub.registry import Registry
from hub.store import Store
from train.trainers.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, newest

RUNS = {"sft": 8, "dpo": 4, "kto": 4, "full": 4}
SHORT = {"sft": 3}
PLAIN_RUNS = 4
MOST_KILLS = 3
SEED = 20261123
NAME = "resumed"
_ROWS = 64
_SETTINGS = {
    "adapter": NAME, "epochs": 3, "batch_size": 8, "rank": 8, "validation": 0.1,
    "report_prompts": 8,
}  # fmt: skip


@dataclass
class Trial:
    """One run through all its lives; `kills` has a line of figures for each."""

    method: str
    kills: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    refused: str = ""
    same: bool = False


def main() -> int:
    short = short_asked()
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        hubs = Hubs(Path(folder), base_folder())
        trials: list[Trial] = []
        for method, count in (SHORT if short else RUNS).items():
            home = hubs.new(method)
            whole = _live(_train(), home, None)
            _require_done(whole)
            wanted = made(home)
            for number in range(count):
                trial = Trial(method)
                while not trial.kills and not trial.refused:  # one may end before its moment
                    trial = survived(hubs.new(method), method, whole, wanted, number, chance)
                trials.append(trial)
                print(_line(trials[-1]), file=sys.stderr)
            if method == "sft":
                home = hubs.new(method, seed=1)
                _require_done(_live(_train(), home, None))
                control = made(home) != wanted
        baseline = plain(hubs, 1 if short else PLAIN_RUNS, chance)
    return write("resume", bars(trials, control), [*figures(trials), baseline], keep=not short)


class Hubs:
    """Homes that hold a base and a config, and nothing else yet."""

    def __init__(self, root: Path, base: Path) -> None:
        self._root, self._base, self._count = root, base, 0
        home_on(Home(root / "new"), base)
        for method in RUNS:
            rows = "".join(f"{json.dumps(row)}\n" for row in _rows(method))
            (root / f"{method}.jsonl").write_text(rows)

    def plain(self, name: str) -> tuple[list[str], Path]:
        """The command of a plain TRL script on the rows for sft, and the adapter's folder."""
        folder = self._root / "plain"
        folder.mkdir(exist_ok=True)
        lines = (self._root / "sft.jsonl").read_text().splitlines(keepends=True)
        for side, part in (("train", lines[6:]), ("validation", lines[:6])):
            (folder / f"{side}.jsonl").write_text("".join(part))
        settings = {
            **_SETTINGS, "alpha": 16, "dropout": 0.0, "early_stopping_patience": 2, "seed": 0,
            "gradient_accumulation": 1, "learning_rate": 5e-3, "warmup_ratio": 0.05,
            "base": str(self._base), "out": str(folder / name),
            **{side: str(folder / f"{side}.jsonl") for side in ("train", "validation")},
        }  # fmt: skip
        told = folder / f"{name}.json"
        told.write_text(json.dumps(settings))
        return [sys.executable, "-m", "benchmarks.plain_trl", str(told)], folder / name

    def new(self, method: str, *, seed: int = 0) -> Home:
        self._count += 1
        home = Home(self._root / str(self._count))
        shutil.copytree(self._root / "new", home.root)
        data = str(self._root / f"{method}.jsonl")
        settings = {**_SETTINGS, "method": method, "data": data, "seed": seed}
        (home.root / "run.yaml").write_text(yaml.safe_dump(settings))
        return home


def survived(
    home: Home, method: str, whole: Life, wanted: dict[str, Any], number: int, chance: random.Random
) -> Trial:
    """Kill a run some times, finish it, and compare."""
    trial = Trial(method)
    for kill in range(chance.randint(1, MOST_KILLS)):
        # The first one of each kind in turn, so that none is left out.
        kind = KINDS[number % len(KINDS)] if kill == 0 else chance.choice(KINDS)
        moment = draw(kind, chance, whole)
        life = _lived(home, trial, moment)
        if not life.killed:
            break
        trial.kills.append(_seen(home, moment, life))
        if trial.kills[-1]["run"] == "published":
            break
    else:
        life = _lived(home, trial, None)
    if life.status != 0 and not life.killed:
        trial.refused = life.said.strip()
        print(trial.refused, file=sys.stderr)
        return trial
    trial.same = made(home) == wanted
    return trial


def _lived(home: Home, trial: Trial, moment: Moment | None) -> Life:
    run = _run(home)
    trial.resumed += run is not None
    command = _train() if run is None else _hub("runs", "resume", run.id)
    return _live(command, home, moment)


def _live(command: list[str], home: Home, moment: Moment | None) -> Life:
    return live(command, home.root, home.runs, moment, log=home.root / "stderr.log")


def _seen(home: Home, moment: Moment, life: Life) -> dict[str, Any]:
    """What a kill has left: how far the run was known to be, and how far it can go on from."""
    run = _run(home)
    facts: dict[str, Any] = {"kind": moment.kind, "after_s": life.seconds}
    if run is None:
        return {**facts, "run": "none yet"}
    whole = newest(home.runs / run.id / "checkpoints")
    kept = int(whole.name.rpartition("-")[2]) if whole else 0
    with Registry.open(home) as registry:
        events = registry.ledger.events(run.id)
    began = max((at for at, event in enumerate(events) if event.kind == "started"), default=0)
    steps = [event.data["step"] for event in events[began:] if event.data.get("step")]
    reached = max([*steps, kept])
    published = any(event.kind == "published" for event in events)
    return {
        **facts, "run": "published" if published else run.status, "step": reached,
        "checkpoint": kept, "again": 0 if run.status == "finished" else reached - kept,
        "half_written": bool(unmarked(home.runs)),
    }  # fmt: skip


def made(home: Home) -> dict[str, Any]:
    """The published version's number and digest, and its files' bytes as sha256."""
    with Registry.open(home) as registry:
        version = registry.resolve(AdapterRef(NAME))
        folder = Store.of(registry).folder(version)
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
    }
    return {"number": version.number, "digest": version.digest, **files}


def plain(hubs: Hubs, count: int, chance: random.Random) -> dict[str, Any]:
    """The same done to a plain TRL script, in each run once; its weights alone are compared."""

    def trained(name: str, moment: Moment | None) -> tuple[Life, str]:
        command, out = hubs.plain(name)
        life = live(command, ROOT, out.parent, moment, log=out.with_suffix(".log"))
        weights = out / ADAPTER_WEIGHTS
        return life, hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else ""

    whole, wanted = trained("whole", None)
    outcomes = Counter[str]()
    seconds = []
    for number in range(count):
        killed, _ = trained(f"{number}", draw("writing a checkpoint", chance, whole))
        seconds.append(killed.seconds)
        ended, weights = trained(f"{number}", None)
        outcomes["same" if weights == wanted else "differs" if ended.status == 0 else "fails"] += 1
    return {
        "way": "plain TRL: writing a checkpoint", "kills": count, "first_s": min(seconds),
        "last_s": max(seconds), "could_not_go_on": outcomes["fails"],
        "differing": outcomes["differs"],
    }  # fmt: skip


def bars(trials: Sequence[Trial], control: bool) -> list[Bar]:
    kills = [kill for trial in trials for kill in trial.kills]
    half = sum(bool(kill.get("half_written")) for kill in kills)
    differing = sum(not trial.same for trial in trials if not trial.refused)
    return [
        exactly(f"adapters that differ, of {len(trials)} killed runs", differing, "", 0),
        exactly("runs that could not be resumed", sum(bool(t.refused) for t in trials), "", 0),
        at_least("kills", len(kills), "", len(trials)),
        at_least("kills that left a half-written checkpoint", half, "", max(1, len(trials) // 5)),
        exactly("control: a run with another seed differs", int(control), "", 1),
    ]


def figures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """A line for each kind of moment, which is printed, then every run with its kills."""
    kills = [kill for trial in trials for kill in trial.kills]
    return [
        *[_of_kind(kind, [kill for kill in kills if kill["kind"] == kind]) for kind in KINDS],
        *[{"run": number, **asdict(trial)} for number, trial in enumerate(trials, start=1)],
    ]


def _of_kind(kind: str, kills: Sequence[dict[str, Any]]) -> dict[str, Any]:
    again = [kill["again"] for kill in kills if "again" in kill]
    seconds = [kill["after_s"] for kill in kills]
    return {
        "way": f"killed: {kind}",
        "kills": len(kills),
        "first_s": min(seconds, default=None),
        "last_s": max(seconds, default=None),
        "before_a_run": sum(kill["run"] == "none yet" for kill in kills),
        "after_its_end": sum(kill["run"] in ("finished", "published") for kill in kills),
        "half_written": sum(bool(kill.get("half_written")) for kill in kills),
        "steps_again_mean": sum(again) / len(again) if again else None,
        "steps_again_most": max(again, default=None),
    }


def _run(home: Home) -> Run | None:
    with Registry.open(home) as registry:
        return next(iter(registry.ledger.runs()), None)


def _require_done(life: Life) -> None:
    if life.status != 0 or life.first_step is None or life.checking is None:
        raise SystemExit(f"a run that nobody killed did not end well:\n{life.said}")


def _train() -> list[str]:
    return _hub("train", "run.yaml")


def _hub(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hub", *arguments]


def _rows(method: str) -> list[dict[str, Any]]:
    """Of the support task; a worse answer is the right one to another intent."""
    text = (ROOT / "examples" / "support" / "train.jsonl").read_text()
    pairs = [json.loads(line)["messages"] for line in text.splitlines()[:_ROWS]]
    if method in ("sft", "full"):
        return [{"messages": pair} for pair in pairs]
    answers = list(dict.fromkeys(answer["content"] for _, answer in pairs))
    rows: list[dict[str, Any]] = []
    for number, (asked, answer) in enumerate(pairs):
        wrong = answers[(answers.index(answer["content"]) + 1) % len(answers)]
        worse = {"role": "assistant", "content": wrong}
        if method == "dpo":
            rows.append({"prompt": [asked], "chosen": [answer], "rejected": [worse]})
        else:
            good = number % 2 == 0
            said = answer if good else worse
            rows.append({"prompt": [asked], "completion": [said], "label": good})
    return rows


def _line(trial: Trial) -> str:
    told = Counter(kill["kind"] for kill in trial.kills)
    kills = ", ".join(f"{count} x {kind}" for kind, count in told.items())
    outcome = "REFUSED" if trial.refused else "same bytes" if trial.same else "DIFFERS"
    return f"{trial.method}: killed {len(trial.kills)} times ({kills}): {outcome}"


if __name__ == "__main__":
    sys.exit(main())
