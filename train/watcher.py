"""The trainer's callback: when to evaluate and save, when to stop, and what to report.

It keeps nothing that a resume would have to restore: every decision follows from the trainer's own
state, which is in the checkpoints.
"""

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hub.errors import TrainingError
from train.checkpoints import mark_complete, out_of_patience
from train.progress import Progress, Report

# At least one evaluation and checkpoint in so many steps: more in an epoch only where it is long.
_MOST_STEPS_BETWEEN = 200


class Watcher(TrainerCallback):
    """`steps_per_epoch` counts optimizer steps, `tokens_per_epoch` all tokens of the rows."""

    def __init__(
        self,
        report: Report,
        *,
        checkpoints: Path,
        patience: int,
        steps_per_epoch: int,
        tokens_per_epoch: int,
    ) -> None:
        self._report = report
        self._checkpoints = checkpoints
        self._patience = patience
        self._steps_per_epoch = steps_per_epoch
        self._tokens_per_step = tokens_per_epoch / steps_per_epoch
        parts = math.ceil(steps_per_epoch / _MOST_STEPS_BETWEEN)
        self._interval = math.ceil(steps_per_epoch / parts)
        self._began: tuple[float, int] | None = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> TrainerControl:
        """Ends of epochs are the trainer's own business; this adds the marks between them."""
        in_epoch = state.global_step % self._steps_per_epoch
        if in_epoch and in_epoch % self._interval == 0:
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"
        return control

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> TrainerControl:
        """A run that stopped within an epoch has evaluated and saved at this step already."""
        if state.global_step % self._steps_per_epoch:
            control.should_evaluate = control.should_save = False
        return control

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> TrainerControl:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        control.should_training_stop |= out_of_patience(losses, self._patience)
        return control

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        mark_complete(self._checkpoints, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        newest = state.log_history[-1]
        for name in ("loss", "eval_loss"):
            if name in newest and not math.isfinite(newest[name]):
                raise TrainingError(
                    f"the loss is no longer a number at step {state.global_step}",
                    hint=f"Lower learning_rate (now {args.learning_rate:g}).",
                )
        if "loss" in newest or "eval_loss" in newest:
            self._report(self._progress(state))

    def _progress(self, state: TrainerState) -> Progress:
        rate, left = self._pace(state)
        return Progress(
            phase="training",
            step=state.global_step,
            total=state.max_steps,
            epoch=state.global_step / self._steps_per_epoch,
            loss=_latest(state, "loss"),
            validation_loss=_latest(state, "eval_loss"),
            tokens_per_second=rate,
            seconds_left=left,
        )

    def _pace(self, state: TrainerState) -> tuple[float | None, float | None]:
        """Tokens a second and seconds left, from the steps that this process has seen."""
        if self._began is None:
            self._began = (time.monotonic(), state.global_step)
        began, first = self._began
        seconds, steps = time.monotonic() - began, state.global_step - first
        if steps == 0 or seconds == 0:
            return None, None
        pace = seconds / steps
        return self._tokens_per_step / pace, pace * (state.max_steps - state.global_step)


def _latest(state: TrainerState, name: str) -> float | None:
    for entry in reversed(state.log_history):
        if name in entry:
            return float(entry[name])
    return None
