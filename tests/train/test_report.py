"""The report: self-contained, escaped, and its verdict in words follows the curve."""

from html.parser import HTMLParser
from typing import Any

import pytest

from train.progress import Point
from train.report import render
from train.report_chart import loss_chart
from train.rows import Message, Row
from train.samples import Sample
from train.verdict import verdict

NASTY = "<script>alert('x')</script> & \"quotes\""
LINEAGE: dict[str, Any] = {
    "base": {"name": "tiny", "digest": "d" * 64, "revision": "sha256:0"},
    "parent": None,
    "dataset": {
        "name": NASTY, "digest": "e" * 64, "training_rows": 34, "validation_rows": 6,
    },
    "lint": {
        "tokens": {"total": 1000, "trained": 400, "longest": 40},
        "findings": [
            {"rule": "pii", "severity": "info", "reason": NASTY, "count": 2, "rows": []}
        ],
    },
    "config": {"adapter": "colours", "method": "sft", "preset": "tiny", "epochs": 2, "data": []},
    "metrics": {
        "train_loss": 1.5, "validation_loss": 1.25, "best_step": 10, "best_epoch": 2.0,
        "steps": 10, "stopped_early": False, "tokens": 2000, "seconds": 3.2,
        "peak_memory": 1 << 28, "device": "CPU, 2 threads",
    },
    "effect": {"mean_kl": 0.5},
    "libraries": {"trl": "1.16.0"},
    "git_commit": None,
}  # fmt: skip


def curve(*losses: float) -> list[Point]:
    """Two training points and one evaluation an epoch."""
    points = []
    for epoch, loss in enumerate(losses, start=1):
        points.append(Point(epoch * 5, float(epoch), loss * 1.1, None))
        points.append(Point(epoch * 5, float(epoch), None, loss))
    return points


class Tags(HTMLParser):
    """Collects start tags, and the addresses that they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]


def test_report_stands_alone_and_escapes_everything() -> None:
    """No address to load, no script, and markup from data or models is shown as text."""
    row = Row(1, "a.jsonl", (Message("user", NASTY), Message("assistant", NASTY)))
    page = render(LINEAGE, curve(2.0, 1.25), [Sample(row, NASTY, NASTY)])
    parser = Tags()
    parser.feed(page)
    assert parser.addresses == []
    assert "script" not in parser.tags
    assert "url(" not in page
    assert page.count("&lt;script&gt;") == 6
    assert "svg" in parser.tags
    assert "prefers-color-scheme: dark" in page


def test_chart_marks_the_checkpoint_that_was_kept() -> None:
    """One dot an evaluation, the kept one marked, and every coordinate inside the picture."""
    chart = loss_chart(curve(2.0, 1.2, 1.4), best_step=10)
    assert chart.count("<circle") == 3
    assert chart.count('class="dot kept"') == 1
    assert "step 10: validation loss 1.2000, kept" in chart
    assert "nan" not in chart


def test_long_curves_are_thinned() -> None:
    """Ten thousand steps are drawn with a few hundred points."""
    history = [Point(step, step / 100, 2.0, None) for step in range(1, 10_001)]
    assert len(loss_chart(history, 10_000)) < 10_000
    assert loss_chart([], 1) == ""


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ((), "No rows were kept"),
        ((1.0,), "too few"),
        ((2.0, 1.0, 0.5), "still falling"),
        ((2.0, 1.0, 0.995), "levelled off"),
        ((2.0, 1.0, 1.5), "overfitting"),
        ((2.0, 1.0, 1.01), "did not improve after it"),
    ],
)
def test_verdict_follows_the_curve(losses: tuple[float, ...], words: str) -> None:
    """Falling, level, overfitting or unknown: the verdict says which."""
    assert words in verdict(curve(*losses))
