"""Several processes train one adapter: one run, one report, each event once."""

import subprocess
import sys
from pathlib import Path

import pytest

from hub.errors import InvalidConfig
from hub.home import Home
from hub.inspect import inspect_adapter
from hub.records import Base
from hub.registry import Registry
from tests.train.conftest import make_settings
from train.config import TrainConfig
from train.progress import Progress
from train.run import run_training
from train.trainers.launch import require_devices

ROOT = Path(__file__).parents[2]


def test_two_processes_train_one_adapter(
    registry: Registry, home: Home, asked: TrainConfig, tiny_base: Base
) -> None:
    """By `accelerate launch` on the CPU: half the steps of one process, every event once, one run
    with one report, and an adapter that publishing accepts."""
    config = asked.model_copy(update={"processes": 2, "epochs": 1, "report_prompts": 0})
    reports: list[Progress] = []
    run = run_training(registry, home, config, progress=reports.append)
    assert [one.id for one in registry.ledger.runs()] == [run.id]
    assert run.lineage is not None
    metrics = run.lineage["metrics"]
    assert metrics["steps"] == 2  # four batches, two for each process
    assert metrics["device"].startswith("2 x CPU")
    assert metrics["validation_loss"] > 0
    assert [p.step for p in reports if p.phase == "training" and p.what == "step"] == [1, 2]
    kinds = [event.kind for event in registry.ledger.events(run.id)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert (kinds.count("evaluated"), kinds.count("checkpoint")) == (1, 1)
    assert inspect_adapter(home.runs / run.id / "adapter", tiny_base).rank == 4
    assert (home.runs / run.id / "report.html").is_file()


SCRIPT = """
import sys, threading, time
from train.trainers.rank import die_with_reader
threading.Thread(target=die_with_reader, args=(1,), daemon=True).start()
print("here", flush=True)
time.sleep(600)
"""


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """However that was killed: its end of the pipe is closed then, and here it is closed."""
    rank = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, cwd=ROOT)
    assert rank.stdout is not None
    assert rank.stdout.readline() == b"here\n"
    assert rank.poll() is None
    rank.stdout.close()
    assert rank.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("changes", "gpus", "words"),
    [
        ({"launch": "--gpu-ids 0,1"}, 0, "--gpu_ids needs a GPU, and there is none here"),
        ({"launch": "--mixed_precision=bf16"}, 0, "train on the CPU; for less memory use quantize"),
        ({"processes": 4}, 2, "use processes: 2 and gradient_accumulation"),
        ({"launch": "--num_processes 2"}, 0, "set processes instead"),
    ],
)
def test_what_the_machine_does_not_have(changes: dict[str, object], gpus: int, words: str) -> None:
    """A GPU's option without a GPU and more processes than GPUs are refused with what to use."""
    with pytest.raises(InvalidConfig) as refusal:
        require_devices(make_settings(**changes), gpus)
    assert words in "\n".join(refusal.value.problems)
    require_devices(make_settings(processes=2), 0)
