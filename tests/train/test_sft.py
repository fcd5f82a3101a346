"""Training for real on a tiny base: it learns, its files travel, and a kill changes no byte."""

import hashlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hub.errors import BaseError, TrainingError
from tests.train.conftest import make_rows, make_settings
from train.data.rows import Message
from train.progress import Progress, TrainResult
from train.reporting.effect import EffectMeter
from train.runtime import ready
from train.trainers.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, newest, reached
from train.trainers.lora import lora_model
from train.trainers.sft import train_sft


def hashes(adapter: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(adapter.iterdir())
    }


OTHER = "please tell what car door bird lamp boat coat wall cup hat book"


def ignore(progress: Progress) -> None:
    """Report nothing."""


class Trained:
    """One uninterrupted training that several tests look at."""

    def __init__(self, model_folder: Path, folder: Path) -> None:
        self.base = str(model_folder)
        self.folder = folder
        self.rows = make_rows()
        self.reports: list[Progress] = []
        self.result: TrainResult = train_sft(
            make_settings(), *self.rows, self.base, folder / "run", progress=self.reports.append
        )


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(model_folder, tmp_path_factory.mktemp("sft"))


def test_it_learns(trained: Trained) -> None:
    """Training and validation loss fall, and the adapter changes what the base says."""
    result = trained.result
    losses = [point.loss for point in result.history if point.loss is not None]
    validation = [p.validation_loss for p in result.history if p.validation_loss is not None]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert len(validation) == 2
    assert result.validation_loss == min(validation)
    assert result.tokens > 1000
    effect = EffectMeter().measure(trained.base, result.adapter)
    assert effect.changes
    assert effect.max_change > 0.1
    assert effect.mean_kl > 0


def test_it_reports_its_progress(trained: Trained) -> None:
    """Every step is reported with its loss, and the last report is of the last step."""
    steps = [report for report in trained.reports if report.phase == "training"]
    assert {report.step for report in steps} == set(range(1, 11))
    assert steps[-1].step == steps[-1].total == 10
    assert all(report.loss for report in steps)
    assert steps[-1].validation_loss == trained.result.validation_loss
    assert steps[-1].tokens_per_second


def test_the_adapter_is_plain_and_portable(trained: Trained) -> None:
    """Two files in PEFT layout; the base is named as in the registry, and no path is in them."""
    adapter = trained.result.adapter
    assert sorted(path.name for path in adapter.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    text = (adapter / ADAPTER_CONFIG).read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "tiny"
    assert config["inference_mode"] is True
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["target_modules"] == sorted(config["target_modules"])
    kinds = {name.rpartition(".")[2] for name in config["target_modules"]}
    assert len(kinds) == 7
    assert "lm_head" not in kinds
    assert "/" not in text
    assert trained.base not in text


class Killed(BaseException):
    """Stands for a kill in this process: nothing of ours or the trainer's catches it."""


@pytest.mark.parametrize("step", [2, 7, 10])
def test_stopped_anywhere_and_resumed_gives_the_same_bytes(
    trained: Trained, tmp_path: Path, step: int
) -> None:
    """Before the first checkpoint, between two, and at the last step."""

    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        train_sft(make_settings(), *trained.rows, trained.base, tmp_path, progress=stop)
    assert not (tmp_path / "adapter").exists()
    result = train_sft(make_settings(), *trained.rows, trained.base, tmp_path, progress=ignore)
    assert hashes(result.adapter) == hashes(trained.result.adapter)
    assert result.history == trained.result.history


def test_killed_and_resumed_gives_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    """kill -9 in the middle of the second epoch, then the rest in another process."""
    script = f"""
import os, pathlib, signal
from tests.train.conftest import make_rows, make_settings
from train.runtime import ready
ready(quantize=False)
from train.runtime import ready
from train.trainers.sft import train_sft
def die(progress):
    if progress.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
out = pathlib.Path({str(tmp_path / "run")!r})
train_sft(make_settings(), *make_rows(), {trained.base!r}, out, progress=die)
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stderr == ""
    assert killed.stdout == ""
    assert not (tmp_path / "run" / "adapter").exists()
    result = train_sft(
        make_settings(), *trained.rows, trained.base, tmp_path / "run", progress=ignore
    )
    assert hashes(result.adapter) == hashes(trained.result.adapter)


def test_a_half_written_checkpoint_is_not_used(trained: Trained, tmp_path: Path) -> None:
    """A checkpoint without its marker is thrown away, and the one before it is gone on from:
    the time that led to that one counts, and its own is lost."""
    shutil.copytree(trained.folder / "run" / "checkpoints", tmp_path / "checkpoints")
    last = newest(tmp_path / "checkpoints")
    assert last is not None
    (last / "complete").unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    before = newest(tmp_path / "checkpoints")
    assert before is not None
    assert 0 < float((before / "complete").read_text()) < trained.result.seconds
    (before / "complete").write_text("1000.0\n")
    result = train_sft(make_settings(), *trained.rows, trained.base, tmp_path, progress=ignore)
    assert hashes(result.adapter) == hashes(trained.result.adapter)
    assert result.seconds > 1000


def test_the_best_checkpoint_is_kept_and_training_stops_early(
    trained: Trained, tmp_path: Path
) -> None:
    """Where validation rows want something else, their loss rises while training's falls: the run
    ends after `early_stopping_patience` evaluations without improvement, and keeps the best."""
    settings = make_settings(epochs=8, early_stopping_patience=2)
    train, validation = trained.rows
    other = [
        replace(row, messages=(*row.prompt, Message("assistant", OTHER))) for row in validation
    ]
    result = train_sft(settings, train, other, trained.base, tmp_path, progress=ignore)
    losses = [
        (point.validation_loss, point.step)
        for point in result.history
        if point.validation_loss is not None
    ]
    best, step = min(losses)
    assert result.stopped_early
    assert result.validation_loss == best
    assert result.best_step == step < result.steps < 40
    assert losses.index((best, step)) == len(losses) - 3
    end = reached(tmp_path / "checkpoints")
    assert end is not None
    kept = end.best_folder() / ADAPTER_WEIGHTS
    assert (result.adapter / ADAPTER_WEIGHTS).read_bytes() == kept.read_bytes()
    again = train_sft(settings, train, other, trained.base, tmp_path, progress=ignore)
    assert again.steps == result.steps


def test_it_continues_from_a_version(trained: Trained, tmp_path: Path) -> None:
    """The second adapter starts where the first one ended and keeps its rank."""
    settings = make_settings(epochs=1, learning_rate=1e-4, continue_from="colours@1", rank=None)
    result = train_sft(
        replace(settings, rank=4),
        *trained.rows,
        trained.base,
        tmp_path,
        progress=ignore,
        parent=trained.result.adapter,
    )
    assert trained.result.validation_loss is not None
    assert result.validation_loss == pytest.approx(trained.result.validation_loss, rel=0.05)
    assert sorted(path.name for path in result.adapter.iterdir()) == [
        ADAPTER_CONFIG,
        ADAPTER_WEIGHTS,
    ]


def test_without_validation_the_last_checkpoint_is_it(trained: Trained, tmp_path: Path) -> None:
    """No rows to validate on: no validation loss, no early stop, the end is what is kept."""
    settings = make_settings(epochs=1, validation=0)
    result = train_sft(settings, trained.rows[0], (), trained.base, tmp_path, progress=ignore)
    assert result.validation_loss is None
    assert result.best_step == result.steps == 5


def test_running_out_of_memory_says_what_to_lower(trained: Trained, tmp_path: Path) -> None:
    """An allocation that fails becomes a TrainingError that names the settings and their values."""

    def exhausted(progress: Progress) -> None:
        if progress.phase == "training":
            torch.empty(1 << 60, dtype=torch.uint8)  # more than there is anywhere

    with pytest.raises(TrainingError, match="memory ran out") as refusal:
        train_sft(make_settings(), *trained.rows, trained.base, tmp_path, progress=exhausted)
    assert "batch_size (now 8" in (refusal.value.hint or "")
    assert "max_length (now 128)" in (refusal.value.hint or "")


def test_a_loss_that_is_no_number_ends_the_run(trained: Trained, tmp_path: Path) -> None:
    """Diverged training is an error that names the learning rate, not an adapter of NaN."""
    from train.trainers import sft

    class Diverged(sft.SFTTrainer):  # type: ignore[misc,name-defined]
        def compute_loss(self, *args: object, **kwargs: object) -> torch.Tensor:
            return super().compute_loss(*args, **kwargs) * float("nan")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "SFTTrainer", Diverged)
        with pytest.raises(TrainingError, match="no longer a number at step 1") as refusal:
            train_sft(make_settings(), *trained.rows, trained.base, tmp_path, progress=ignore)
    assert "learning_rate" in (refusal.value.hint or "")


def test_qlora_trains_on_a_base_in_four_bits(trained: Trained, tmp_path: Path) -> None:
    """`quantize: nf4` gives an adapter in the same layout, which acts on the unquantized base."""
    ready(quantize=True)
    result = train_sft(
        make_settings(quantize="nf4"), *trained.rows, trained.base, tmp_path, progress=ignore
    )
    assert sorted(path.name for path in result.adapter.iterdir()) == [
        ADAPTER_CONFIG,
        ADAPTER_WEIGHTS,
    ]
    assert EffectMeter().measure(trained.base, result.adapter).changes
    tensors = load_file(result.adapter / ADAPTER_WEIGHTS)
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}


def test_what_quantize_rslora_and_dropout_set(trained: Trained) -> None:
    """nf4 holds the adapted layers in 4-bit nf4, rsLoRA scales by alpha / sqrt(rank), and dropout
    is in the adapter; without them the layers are plain and the scale is alpha / rank."""
    ready(quantize=True)
    from bitsandbytes.nn import Linear4bit

    def layer(**changes: object) -> Any:
        model = lora_model(make_settings(**changes), trained.base, None)
        return model.get_base_model().model.layers[0].self_attn.q_proj

    plain = layer()
    assert not isinstance(plain.get_base_layer(), Linear4bit)
    assert plain.scaling["default"] == 2.0
    quantized = layer(quantize="nf4", rslora=True, alpha=8, dropout=0.25)
    assert isinstance(quantized.get_base_layer(), Linear4bit)
    assert quantized.get_base_layer().weight.quant_type == "nf4"
    assert quantized.scaling["default"] == 4.0  # 8 / sqrt(4)
    assert quantized.lora_dropout["default"].p == 0.25


def test_dropout_is_the_runs_and_not_the_parents(trained: Trained, tmp_path: Path) -> None:
    """A continued adapter drops out what the run was told to, whatever the version began with."""
    parent = tmp_path / "parent"
    shutil.copytree(trained.result.adapter, parent)
    facts = json.loads((parent / ADAPTER_CONFIG).read_text()) | {"lora_dropout": 0.5}
    (parent / ADAPTER_CONFIG).write_text(json.dumps(facts))
    for dropout in (0.0, 0.25):
        settings = make_settings(continue_from="colours@1", rank=None, dropout=dropout)
        model = lora_model(replace(settings, rank=4), trained.base, parent)
        assert model.peft_config["default"].lora_dropout == dropout
        assert {module.p for name, module in model.named_modules()
                if name.endswith("lora_dropout.default") and hasattr(module, "p")} == (
            {dropout} if dropout else set())  # fmt: skip


def test_a_base_that_is_not_there_is_refused(trained: Trained, tmp_path: Path) -> None:
    """A folder without a model gets one line, not a traceback of transformers."""
    with pytest.raises(BaseError):
        train_sft(make_settings(), *trained.rows, str(tmp_path), tmp_path / "run", progress=ignore)


def test_nothing_of_the_libraries_is_heard(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No warning, log line or progress bar of theirs, and logging is as before afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_sft(make_settings(epochs=1), *trained.rows, trained.base, tmp_path, progress=ignore)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET
