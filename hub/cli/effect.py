"""The effect check, run in a command's own process with what `hub` itself may not import."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.publish import Effect
    from train.reporting.effect import EffectMeter


class ModelEffect:
    """A `hub.publish.MeasureEffect`. The base stays loaded from one adapter to the next, for as
    long as this lives."""

    def __init__(self) -> None:
        self._meter: EffectMeter | None = None

    def __call__(self, base_source: str, folder: Path) -> "Effect":
        """Raises MissingExtra, BaseError, TrainingError as `train.reporting.effect` does."""
        from hub.cli.extras import require_extra
        from hub.publish import Effect

        if self._meter is None:
            require_extra("train", "torch", "transformers", "peft")
            from train.runtime import ready

            ready(quantize=False)
            from train.reporting.effect import EffectMeter

            self._meter = EffectMeter()
        report = self._meter.measure(base_source, folder)
        return Effect(report.changes, report.max_change, report.mean_kl)
