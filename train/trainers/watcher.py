"""The trainer's callback: when to evaluate and save, when to stop, and what to report.

It keeps nothing that a resume would have to restore: every decision follows from the trainer's own
state, which is in the checkpoints.

Where somebody wants that the training ends, it ends with the step after, and a checkpoint of it.
With several processes the first one's watcher reports and is told what is wanted, and all end with
the same step.
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hub.errors import TrainingError
from train.progress import Progress, Report, Wanted
from train.trainers.checkpoints import mark_complete, out_of_patience

# At least one evaluation and checkpoint in so many steps: more in an epoch only where it is long.
_MOST_STEPS_BETWEEN = 200


class Watcher(TrainerCallback):
    """`steps_per_epoch` counts optimizer steps, `tokens_per_epoch` all tokens of the rows."""

    def __init__(
        self,
        report: Report,
        *,
        checkpoints: Path,
        started: float,
        patience: int,
        steps_per_epoch: int,
        tokens_per_epoch: int,
    ) -> None:
        self._report = report
        self._checkpoints = checkpoints
        self._started = started
        self._patience = patience
        self._steps_per_epoch = steps_per_epoch
        self._tokens_per_step = tokens_per_epoch / steps_per_epoch
        parts = math.ceil(steps_per_epoch / _MOST_STEPS_BETWEEN)
        self._interval = math.ceil(steps_per_epoch / parts)
        self._began: tuple[float, int] | None = None
        self._wanted: Wanted | None = None
        self.stopped: Wanted | None = None

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
        self.stopped = _agreed(self._wanted)
        if self.stopped is not None:
            control.should_training_stop = True
            # At the end of an epoch the trainer saves once more: a second time over the first.
            control.should_save = bool(in_epoch)
        elif state.global_step % args.logging_steps and state.is_world_process_zero:
            self._tell(state)
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
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes the state of its random numbers
        if not state.is_world_process_zero:
            return
        mark_complete(self._checkpoints, state.global_step, time.monotonic() - self._started)
        folder = self._checkpoints / f"checkpoint-{state.global_step}"
        self._tell(state, what="checkpoint", folder=folder)

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
        if not state.is_world_process_zero:
            return
        if "eval_loss" in newest:
            self._tell(state, what="evaluated")
        elif "loss" in newest:
            self._tell(state)

    def _tell(self, state: TrainerState, **more: Any) -> None:
        self._wanted = self._report(replace(self._progress(state), **more)) or self._wanted

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
            learning_rate=_latest(state, "learning_rate"),
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


def _agreed(wanted: Wanted | None) -> Wanted | None:
    """What the first process was told, in each of them; one alone has nobody to ask."""
    if not torch.distributed.is_initialized():
        return wanted
    said: list[Any] = [wanted]
    torch.distributed.broadcast_object_list(said, src=0)
    agreed: Wanted | None = said[0]
    return agreed


def _latest(state: TrainerState, name: str) -> float | None:
    for entry in reversed(state.log_history):
        if name in entry:
            return float(entry[name])
    return None
