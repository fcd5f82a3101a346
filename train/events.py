"""A run's news written into the registry, and what somebody wants of it read from there.

The registry is shared, so it is touched at most about once a second, and more rarely in a long run:
its steps are thinned out so that after the first minutes their number grows with the logarithm of
the time. Nothing that goes wrong in writing news ends a training: a step is dropped, and what must
not be lost (an evaluation, a checkpoint) is tried again with the next. The run's
beginning and end are written by `hub.ledger` with its status, in one transaction.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from hub.errors import HubError, RunStopped
from hub.ledger import Ledger
from train.progress import Progress, Report, Wanted

_LOOK_S = 1.0
# A step is news if so much of the time since the start has passed since the last.
_SHARE = 1 / 500
# Somebody else's transaction takes milliseconds; a training does not wait for more than that.
_PATIENCE_S = 0.25
_WANTS: dict[str, Wanted] = {"cancel": "cancel", "pause": "pause"}


class Recorder:
    """Passes a run's progress on to `report`, and writes down what is news of it.

    Called, it returns what is wanted of the run, as `report` or the registry says.

    Raises:
        RunStopped: when something is wanted while nothing is being trained.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        report: Report,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._run, self._report, self._clock = ledger, run_id, report, clock
        self._began = clock()
        self._looked = self._stepped = float("-inf")
        self._wanted: Wanted | None = None
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, progress: Progress) -> Wanted | None:
        asked = self._report(progress)
        if progress.phase == "training":
            self._note(progress)
        self._wanted = asked or self._wanted or self._read_wanted()
        if self._wanted is not None and progress.phase not in ("training", "done"):
            raise RunStopped.when(self._wanted, self._run)
        return self._wanted

    def _note(self, progress: Progress) -> None:
        match progress.what:
            case "evaluated":
                self._add("evaluated", {"step": progress.step, "loss": progress.validation_loss})
            case "checkpoint":
                facts = {"step": progress.step, "loss": progress.validation_loss}
                self._add("checkpoint", {**facts, "path": str(progress.folder)})
            case "step" if progress.step and self._is_news(progress):
                self._add("step", step_facts(progress), droppable=True)

    def _is_news(self, progress: Progress) -> bool:
        now = self._clock()
        pause = max(_LOOK_S, (now - self._began) * _SHARE)
        if progress.step < progress.total and now - self._stepped < pause:
            return False
        self._stepped = now
        return True

    def _add(self, kind: str, data: dict[str, Any], *, droppable: bool = False) -> None:
        waiting = [*self._waiting, (kind, data)]
        self._waiting = []
        for at, (kind_, data_) in enumerate(waiting):
            try:
                self._ledger.add_event(self._run, kind_, data_, wait_s=_PATIENCE_S)
            except (HubError, sqlite3.Error):
                self._waiting = waiting[at:-1] if droppable else waiting[at:]
                return

    def _read_wanted(self) -> Wanted | None:
        if self._clock() - self._looked < _LOOK_S:
            return None
        self._looked = self._clock()
        try:
            return _WANTS.get(self._ledger.wanted(self._run) or "")
        except (HubError, sqlite3.Error):
            return None


def step_facts(progress: Progress) -> dict[str, Any]:
    rate = progress.tokens_per_second
    return {
        "step": progress.step,
        "of": progress.total,
        "epoch": round(progress.epoch, 4),
        "loss": progress.loss,
        "learning_rate": progress.learning_rate,
        "tokens_per_s": None if rate is None else round(rate, 1),
    }
