"""A run from config to finished adapter, and what a refused, failed or killed one leaves."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hub.basefiles import read_base
from hub.cli.trained import register_base
from hub.errors import (
    AdapterRejected,
    Conflict,
    InvalidConfig,
    InvalidData,
    InvalidName,
    RunStopped,
    TrainingError,
    UnknownBase,
    UnknownReference,
)
from hub.home import Home
from hub.inspect import inspect_adapter
from hub.manifest import FileEntry, Manifest
from hub.records import Base, Run
from hub.registry import Registry
from hub.run_state import run_state
from tests.train.conftest import Maker, chat, chats
from train.config import TrainConfig
from train.progress import Progress
from train.run import run_training

pytestmark = pytest.mark.usefixtures("tiny_base")


def ignore(progress: Progress) -> None:
    """Report nothing."""


def leftovers(registry: Registry, home: Home) -> list[object]:
    return [*registry.ledger.runs(), *(home.runs.iterdir() if home.runs.exists() else [])]


def test_a_run_ends_in_an_adapter_with_its_lineage(
    registry: Registry, home: Home, asked: TrainConfig, tiny_base: Base
) -> None:
    """Finished in the ledger, an adapter that publishing accepts, a report, and full lineage."""
    phases: list[str] = []
    run = run_training(
        registry, home, asked, progress=lambda progress: phases.append(progress.phase)
    )
    folder = home.runs / run.id
    assert run.status == "finished"
    assert run_state(run, home) == "finished"
    assert list(dict.fromkeys(phases)) == [
        "reading", "loading", "training", "checking", "reporting", "done",
    ]  # fmt: skip
    assert inspect_adapter(folder / "adapter", tiny_base).rank == 4
    assert not (folder / "checkpoints").exists()
    facts = run.lineage
    assert facts is not None
    assert facts["base"]["digest"] == tiny_base.digest
    assert facts["dataset"]["digest"] == run.dataset_digest
    assert facts["dataset"]["training_rows"] + facts["dataset"]["validation_rows"] == 40
    assert facts["config"]["rank"] == 4
    assert facts["config"]["data"] == ["train.jsonl"]
    assert facts["lint"]["ok"] is True
    assert facts["effect"]["changes"] is True
    assert facts["metrics"]["validation_loss"] > 0
    assert facts["libraries"]["trl"]
    assert facts["seed"] == 0
    assert str(home.root) not in json.dumps(facts)
    assert json.loads((folder / "config.json").read_text()) == run.config
    page = (folder / "report.html").read_text()
    assert "It is a" in page
    assert "http" not in page


def test_what_travels_names_no_folder(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """A finding's rows are in the lineage by their file's name; the folder stays at home."""
    rows = chats(40)
    question, answer = rows[0]["messages"]
    loud = {"messages": [{**question, "content": question["content"].upper()}, answer]}
    config = asked.model_copy(update={"data": (jsonl([*rows, loud], "loud.jsonl"),)})
    facts = run_training(registry, home, config, progress=ignore).lineage
    assert facts is not None
    places = [place for finding in facts["lint"]["findings"] for place in finding["rows"]]
    assert {place["file"] for place in places} == {"loud.jsonl"}
    assert str(config.data[0].parent) not in json.dumps(facts)


BAD_DATA = [
    ([], "empty"),
    (chats(3), "at least 8 are needed"),
    ([*chats(20), {"messages": [{"role": "user", "content": "Hi"}]}], "no answer"),
    ([*chats(20), chat("word " * 200, "It is long.")], "longer than 128 tokens"),
]


@pytest.mark.parametrize(("rows", "reason"), BAD_DATA)
def test_refused_data_leaves_nothing(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker, rows: list[dict], reason: str
) -> None:
    """The refusal says why; there is no run, no data set and no folder afterwards."""
    config = asked.model_copy(update={"data": (jsonl(rows, "bad.jsonl"),)})
    with pytest.raises(InvalidData, match=reason):
        run_training(registry, home, config, progress=ignore)
    assert leftovers(registry, home) == []


def test_leaked_rows_are_named(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """A held-out row in the data refuses the run with its number."""
    config = asked.model_copy(update={"heldout": (jsonl(chats(40)[4:5], "held.jsonl"),)})
    with pytest.raises(InvalidData, match=r"leakage: .*row 5 of .*train\.jsonl"):
        run_training(registry, home, config, progress=ignore)
    assert leftovers(registry, home) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"base": "nothing"}, UnknownBase),
        ({"continue_from": "nothing@1", "rank": None}, UnknownReference),
        ({"max_length": 4096}, InvalidConfig),
        ({"data": (Path("nowhere.jsonl"),)}, InvalidData),
    ],
)
def test_what_is_not_there_is_refused(
    registry: Registry,
    home: Home,
    asked: TrainConfig,
    change: dict[str, object],
    error: type[Exception],
) -> None:
    """An unknown base, version, file or impossible length is refused before anything is written."""
    with pytest.raises(error):
        run_training(registry, home, asked.model_copy(update=change), progress=ignore)
    assert leftovers(registry, home) == []


def test_what_could_not_be_published_is_not_trained(
    registry: Registry, home: Home, asked: TrainConfig, model_folder: Path
) -> None:
    """A base's name and another base's adapter are refused before the data is even read."""
    identity, shapes = read_base(model_folder, "other")
    identity = replace(identity, revision=f"sha256:{'0' * 64}")
    registry.bases.add("elsewhere", identity, shapes)
    manifest = Manifest(identity, (FileEntry("w", "0" * 64, 1),))
    registry.versions.add("theirs", manifest, rank=4, lineage={})
    for name, error in (("other", InvalidName), ("theirs", AdapterRejected)):
        config = asked.model_copy(update={"adapter": name, "data": (Path("nowhere.jsonl"),)})
        with pytest.raises(error, match="base"):
            run_training(registry, home, config, progress=ignore)
    assert leftovers(registry, home) == []


def test_a_folder_that_cannot_be_made_fails_the_run(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """Where the run's folder can't be written it is a TrainingError, and no run is left running."""
    home.runs.parent.mkdir(parents=True, exist_ok=True)
    if home.runs.exists():
        home.runs.rmdir()
    home.runs.write_text("in the way")
    with pytest.raises(TrainingError, match="can't be written") as refusal:
        run_training(registry, home, asked, progress=ignore)
    (run,) = registry.ledger.runs()
    assert (run.status, refusal.value.where) == ("failed", str(home.runs / run.id))
    home.runs.unlink()
    assert run_training(registry, home, asked, progress=ignore, resume=run).status == "finished"


def test_no_space_fails_the_run_cleanly(registry: Registry, home: Home, asked: TrainConfig) -> None:
    """Where no file may grow over 300 kB (a limit that the kernel keeps, as it does a full disk's),
    a checkpoint can't be written: the run is failed and says so, no half checkpoint is left, and
    with room again it is resumed to the end."""
    config = asked.model_copy(update={"rank": 64})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))

    try:
        with pytest.raises(TrainingError, match="disk is full") as refusal:
            run_training(registry, home, config, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "resume the run" in (refusal.value.hint or "")
    (run,) = registry.ledger.runs()
    assert run.status == "failed"
    assert "disk is full" in (run.error or "")
    kept = (home.runs / run.id / "checkpoints").glob("checkpoint-*")
    assert all((checkpoint / "complete").exists() for checkpoint in kept)
    assert run_training(registry, home, config, progress=ignore, resume=run).status == "finished"


def stopped_at(step: int, error: BaseException) -> object:
    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == step:
            raise error

    return stop


def test_a_stopped_run_is_failed_and_can_be_resumed(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """An exception of Ctrl-C ends it as cancelled, without an adapter; resumed, it finishes."""
    with pytest.raises(RunStopped):
        run_training(registry, home, asked, progress=stopped_at(7, KeyboardInterrupt()))
    (run,) = registry.ledger.runs()
    assert (run.status, run.error) == ("cancelled", None)
    assert not (home.runs / run.id / "adapter").exists()
    finished = run_training(registry, home, asked, progress=ignore, resume=run)
    assert (finished.id, finished.status, finished.error) == (run.id, "finished", None)
    with pytest.raises(Conflict, match="finished"):
        run_training(registry, home, asked, progress=ignore, resume=finished)


def test_a_fault_of_a_library_is_recorded(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """Whatever goes wrong becomes a TrainingError, and its reason is in the ledger."""
    with pytest.raises(TrainingError, match="KeyError"):
        run_training(registry, home, asked, progress=stopped_at(2, KeyError("surprise")))
    (run,) = registry.ledger.runs()
    assert run.status == "failed"
    assert "surprise" in (run.error or "")


def test_changed_data_is_not_resumed(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """The rest of a run is trained on what its beginning was, or not at all."""
    with pytest.raises(RunStopped):
        run_training(registry, home, asked, progress=stopped_at(2, KeyboardInterrupt()))
    jsonl(chats(41))
    (run,) = registry.ledger.runs()
    with pytest.raises(InvalidData, match="not what the run began with"):
        run_training(registry, home, asked, progress=ignore, resume=run)


def test_a_run_whose_process_died_is_interrupted(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """`running` under a process that is gone is shown as interrupted, else as running."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    blank = Run(
        id="r", adapter="a", method="sft", status="running", base="tiny", dataset_digest="",
        config={}, pid=dead.pid, started_at="", finished_at=None, lineage=None, error=None,
    )  # fmt: skip
    assert run_state(blank, home) == "interrupted"
    assert run_state(replace(blank, pid=os.getpid()), home) == "running"
    assert run_state(replace(blank, status="failed"), home) == "failed"
    with pytest.raises(Conflict, match="running"):
        run_training(registry, home, asked, progress=ignore, resume=replace(blank, pid=os.getpid()))


@pytest.mark.parametrize(("rate", "said"), [(1e-12, "changes nothing"), (1.0, "diverged")])
def test_a_training_that_changes_nothing_or_makes_it_worse_fails(
    registry: Registry, home: Home, asked: TrainConfig, rate: float, said: str
) -> None:
    """A rate too small to matter, or so large that the loss ends far above that of a base which
    knew the task, ends in an error that says so, not in a run that could be published."""
    changes = {"learning_rate": rate, "epochs": 1, "report_prompts": 0}
    if said == "diverged":
        whole = {"method": "full", "learning_rate": 5e-3, "publish_as": "base", "rank": None}
        known = asked.model_copy(update={**changes, **whole, "epochs": 3})
        run = run_training(registry, home, known, progress=ignore)
        changes["base"] = register_base(registry, home, run).name
        changes["adapter"] = "worse"
    with pytest.raises(TrainingError, match=said) as refusal:
        run_training(registry, home, asked.model_copy(update=changes), progress=ignore)
    assert "learning_rate" in (refusal.value.hint or "")
    assert registry.ledger.runs()[0].status == "failed"
