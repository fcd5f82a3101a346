"""A training on several devices: `accelerate launch` starts its processes, this one follows them.

Each process is `train.trainers.rank`, with batches of its own; gradients are averaged (data
parallel). All else stays here: this process alone writes the registry, publishes and reports, so
there is one run, one version and one report however many train. It learns of the steps from lines
on the processes' output, and tells them by a file that they are to end. They end by themselves when
it dies.

On a machine without a GPU the processes share the CPU and talk through gloo.

Absent on purpose: checking what `--launch` passes beyond what needs a GPU. Weights that are split
over devices (FSDP, DeepSpeed) are accelerate's to arrange, and were never tried here.
"""

import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hub.errors import InvalidConfig, RunStopped, TrainingError
from train.config import Settings
from train.data.rows import Row
from train.progress import Progress, Report, TrainResult, Wanted

MARK = "loom-rank: "
WANTED = "wanted"
_GPU_ONLY = ("--use_fsdp", "--use_deepspeed", "--use_megatron_lm", "--gpu_ids", "--mixed_precision")
_SHOWN_LINES = 8
_GRACE_S = 20.0


@dataclass(frozen=True)
class Share:
    """What a process needs to take its part in a training."""

    settings: Settings
    training: tuple[Row, ...]
    validation: tuple[Row, ...]
    base_source: str
    out: Path
    continued: Path | None


@dataclass(frozen=True)
class Spent:
    """What the processes together took, as `train.progress.TrainResult` has it."""

    seconds: float
    peak_memory: int
    device: str

    def put_into(self, result: TrainResult) -> TrainResult:
        return replace(result, **asdict(self))


def is_launched(settings: Settings) -> bool:
    return settings.processes > 1 or settings.launch is not None


def require_devices(settings: Settings, gpus: int) -> None:
    """Refuse what needs a GPU where there is none, and more processes than GPUs.

    Raises:
        InvalidConfig: saying what to use instead.
    """
    problems = []
    asked = [
        part.partition("=")[0].replace("-", "_") for part in shlex.split(settings.launch or "")
    ]
    for option in _GPU_ONLY:
        if gpus == 0 and option.replace("-", "_") in asked:
            problems.append(
                f"launch: {option} needs a GPU, and there is none here: leave it out, and the"
                " processes train on the CPU; for less memory use quantize: nf4"
            )
    for option in ("--num_processes", "--num_machines"):
        if option.replace("-", "_") in asked:
            problems.append(f"launch: {option} is not passed on; set processes instead")
    if 0 < gpus < settings.processes:
        problems.append(
            f"processes: {settings.processes} are more than the {gpus} GPUs here; use"
            f" processes: {gpus} and gradient_accumulation for as large a batch"
        )
    if problems:
        raise InvalidConfig(problems)


def train_in_processes(
    settings: Settings,
    training: Sequence[Row],
    validation: Sequence[Row],
    base_source: str,
    out: Path,
    *,
    progress: Report,
    continued: Path | None,
) -> Spent:
    """Train to the end, or go on to it, in processes of their own; the checkpoints are in `out`.

    Raises:
        TrainingError: when one of them failed, with its last words.
        RunStopped: when somebody wanted that it ends.
    """
    share = Share(settings, tuple(training), tuple(validation), base_source, out, continued)
    (out / WANTED).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "share"
        path.write_bytes(pickle.dumps(share))
        with _started(_command(settings, path), out) as process:
            spent, last = _follow(process, out, progress)
    if process.returncode != 0 or spent is None:
        raise TrainingError(
            f"the processes of the training failed ({process.returncode})",
            hint="\n".join(last) or None,
        )
    return spent


def _command(settings: Settings, share: Path) -> list[str]:
    # --multi_gpu is accelerate's word for its launcher of several processes, on a CPU too.
    own = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    own += ["--main_process_port=0", f"--num_processes={settings.processes}"]
    asked = shlex.split(settings.launch or "")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *own, *asked]
    return [*launcher, "-m", "train.trainers.rank", str(share)]


@contextmanager
def _started(command: list[str], out: Path) -> Iterator["subprocess.Popen[str]"]:
    """A session of its own, so that Ctrl-C is this process's to answer; gone when this is left."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        (out / WANTED).unlink(missing_ok=True)


def _follow(
    process: "subprocess.Popen[str]", out: Path, progress: Report
) -> tuple[Spent | None, list[str]]:
    """Pass on what the first process reports; what it took, and the last other lines."""
    spent: Spent | None = None
    last: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith(MARK):
            last = [*last, line.rstrip()][-_SHOWN_LINES:]
            continue
        told: dict[str, Any] = json.loads(line.removeprefix(MARK))
        if "error" in told:
            raise TrainingError(told["error"], hint=told["hint"])
        if "stopped" in told:
            raise RunStopped.when(told["stopped"], out.name, step=told["step"])
        if "seconds" in told:
            spent = Spent(**told)
            continue
        wanted = progress(_progress(told))
        if wanted is not None:
            _tell(out, wanted)
    return spent, last


def _tell(out: Path, wanted: Wanted) -> None:
    scratch = out / f"{WANTED}.tmp"
    scratch.write_text(wanted, encoding="utf-8")
    scratch.replace(out / WANTED)


def _progress(told: dict[str, Any]) -> Progress:
    folder = told.pop("folder")
    return Progress(**told, folder=Path(folder) if folder else None)
