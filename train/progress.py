"""What a run says while it runs, and what it has to say at the end. No library is imported here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Phase = Literal["reading", "loading", "training", "checking", "reporting", "done"]
Wanted = Literal["cancel", "pause"]


@dataclass(frozen=True)
class Progress:
    """Where a run is. Outside of `training` only the phase counts.

    `loss` is the newest training loss and `validation_loss` the newest evaluation's, both in
    nats a token (those of dpo and kto are losses of their own); `seconds_left` is an estimate from
    the steps so far. `note` is a line for whoever watches, whatever the phase. `what` says which
    news it is; with `checkpoint`, `folder` is where that lies.
    """

    phase: Phase
    step: int = 0
    total: int = 0
    epoch: float = 0.0
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    note: str | None = None
    what: Literal["step", "evaluated", "checkpoint"] = "step"
    learning_rate: float | None = None
    folder: Path | None = None


# What it returns is wanted of the training: nothing, or that it ends with the next step.
Report = Callable[[Progress], Wanted | None]


@dataclass(frozen=True)
class Point:
    """One entry of the curves: a training loss or a validation loss at a step."""

    step: int
    epoch: float
    loss: float | None
    validation_loss: float | None


@dataclass(frozen=True)
class TrainResult:
    """A finished training. `adapter` is its PEFT folder; losses are in nats a token.

    `train_loss` is the mean over the epoch that ended at the chosen step. `tokens` counts every
    token read in training, prompts and repeats included. `peak_memory` is in bytes: the device's
    on a GPU, the process's on a CPU. `seconds` are those that led here: of a resumed run also those
    before its checkpoint, not those whose steps were lost.
    """

    adapter: Path
    history: tuple[Point, ...]
    train_loss: float
    validation_loss: float | None
    best_step: int
    best_epoch: float
    steps: int
    stopped_early: bool
    tokens: int
    seconds: float
    peak_memory: int
    device: str

    def metrics(self) -> dict[str, Any]:
        return {
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            "best_step": self.best_step,
            "best_epoch": self.best_epoch,
            "steps": self.steps,
            "stopped_early": self.stopped_early,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "device": self.device,
        }
