"""The loss curves as inline SVG: training and validation, and the checkpoint that was kept.

Colours come from the page's CSS variables, so the chart follows light and dark with it.
"""

import math
from collections.abc import Sequence
from html import escape

from train.progress import Point

WIDE, NARROW = 860, 380  # text in a picture shrinks with it, so a phone gets one of its own
_HEIGHT = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 16, 34
_MOST_POINTS = 240
_TICKS = 4


def loss_chart(history: Sequence[Point], best_step: int, *, width: int = WIDE) -> str:
    """An `<svg>`; '' where there is nothing to draw."""
    training = [(point.step, point.loss) for point in history if point.loss is not None]
    validation = [
        (point.step, point.validation_loss)
        for point in history
        if point.validation_loss is not None
    ]
    if not training:
        return ""
    scale = _Scale([*training, *validation], width)
    parts = [
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="Loss by step">',
        *scale.axes(),
        scale.training(_thinned(training)),
    ]
    if validation:
        parts.append(f'<path class="line validation" d="{scale.path(validation)}"/>')
        parts += [scale.dot(step, loss, kept=step == best_step) for step, loss in validation]
    return "".join([*parts, "</svg>"])


class _Scale:
    """Steps to x, losses to y; y is logarithmic, because losses fall by factors."""

    def __init__(self, points: Sequence[tuple[int, float]], width: int) -> None:
        self._width = width
        positive = [loss for _, loss in points if loss > 0] or [1.0]
        self._low = math.log10(min(positive))
        self._high = max(math.log10(max(positive)), self._low + 0.1)
        self._steps = max(step for step, _ in points)

    def x(self, step: float) -> float:
        return _LEFT + (self._width - _LEFT - _RIGHT) * step / self._steps

    def y(self, loss: float) -> float:
        height = math.log10(loss) if loss > 0 else self._low
        share = (height - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def path(self, points: Sequence[tuple[int, float]]) -> str:
        spots = [f"{self.x(step):.1f},{self.y(loss):.1f}" for step, loss in points]
        return "M" + " L".join(spots)

    def training(self, points: Sequence[tuple[int, float]]) -> str:
        """A line, which a single step does not make."""
        if len(points) > 1:
            return f'<path class="line training" d="{self.path(points)}"/>'
        ((step, loss),) = points
        return f'<circle class="single" cx="{self.x(step):.1f}" cy="{self.y(loss):.1f}" r="3.5"/>'

    def dot(self, step: int, loss: float, *, kept: bool) -> str:
        text = f"step {step}: validation loss {loss:.4f}{', kept' if kept else ''}"
        return (
            f'<circle class="{"dot kept" if kept else "dot"}" cx="{self.x(step):.1f}" '
            f'cy="{self.y(loss):.1f}" r="{6 if kept else 3.5}">'
            f"<title>{escape(text)}</title></circle>"
        )

    def axes(self) -> list[str]:
        parts = []
        for tick in range(_TICKS + 1):
            loss = 10 ** (self._low + (self._high - self._low) * tick / _TICKS)
            y = self.y(loss)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{self._width - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:.2g}</text>'
            )
        for step in sorted({round(self._steps * tick / _TICKS) for tick in range(_TICKS + 1)}):
            anchor = "end" if step == self._steps else "middle"
            parts.append(
                f'<text x="{self.x(step):.1f}" y="{_HEIGHT - 12}" '
                f'text-anchor="{anchor}">{step}</text>'
            )
        return parts


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Few enough points to draw: means of neighbours, the last one kept as it is."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
