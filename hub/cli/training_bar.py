"""How a training looks while it goes on: a bar on a terminal, now and then a line elsewhere.

The first Ctrl-C (or SIGTERM) asks a training to end with its next step and a checkpoint; a second
one, or the first while nothing is being trained, ends the program at once.
"""

import os
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from hub.cli.output import note, progress_bar

if TYPE_CHECKING:
    from train.progress import Progress, Wanted

_LINE_S = 20.0
_STOPPING = b"\nending with the next step; once more ends it at once\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingBar:
    """What it returns for a report is what the person at the terminal wants of the training."""

    def __init__(self) -> None:
        self._wanted: Wanted | None = None
        self._phase = ""
        self._shown = float("-inf")
        self._bar: Any = None

    def __enter__(self) -> "TrainingBar":
        if sys.stderr.isatty():
            from rich.progress import TextColumn

            self._bar = progress_bar(TextColumn("{task.fields[news]}"), timed=False)
            self._bar.start()
            self._task = self._bar.add_task("training", total=None, news="")
        self._before = {one: signal.signal(one, self._on_signal) for one in _SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: "Progress") -> "Wanted | None":
        if progress.note is not None:
            self._say(progress.note)
        if self._bar is not None:
            self._bar.update(self._task, description=progress.phase)
            if progress.phase == "training":
                self._bar.update(self._task, completed=progress.step,
                                 total=progress.total or None, news=news(progress))  # fmt: skip
        else:
            self._line(progress)
        self._phase = progress.phase
        return self._wanted

    def _line(self, progress: "Progress") -> None:
        """A step's line only now and then; an evaluation's and the last one always."""
        if progress.phase != "training":
            if progress.phase != self._phase and progress.phase != "done":
                note(progress.phase)
            return
        now = time.monotonic()
        last = progress.step == progress.total and progress.what == "step"
        due = now - self._shown >= _LINE_S and progress.what == "step"
        if progress.what == "evaluated" or due or last:
            self._shown = now
            note(f"step {progress.step}/{progress.total}  {news(progress)}")

    def _say(self, text: str) -> None:
        if self._bar is None:
            note(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._phase != "training" or self._wanted is not None:
            raise KeyboardInterrupt
        self._wanted = "cancel"
        # Not through a stream: this may come in the middle of a write to it.
        os.write(sys.stderr.fileno(), _STOPPING)


def news(progress: "Progress") -> str:
    """`loss 0.512  validation 0.613  1,234 tokens/s  3 min left`, as far as it is known."""
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.validation_loss is not None:
        parts.append(f"validation {progress.validation_loss:.3f}")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.seconds_left is not None and progress.step < progress.total:
        parts.append(f"{duration(progress.seconds_left)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """8 s, 3 min, 2.5 h: as exact as an estimate is."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
