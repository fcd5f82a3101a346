"""The report: self-contained, escaped, fit for phones, and its words follow the figures."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.browser import find
from train.data.rows import Message, Row
from train.progress import Point
from train.reporting.chart import loss_chart
from train.reporting.examine import Examined
from train.reporting.memorisation import Repeated
from train.reporting.report import render
from train.reporting.samples import Sample
from train.reporting.told import energy, forgetting, memorising
from train.reporting.verdict import diverged, verdict

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
    "verdict": {"kind": "fits", "words": NASTY},
    "memorisation": {
        "passage_tokens": 50, "answer_tokens": 16, "training_answers": 34, "long_answers": 30,
        "longest_answer": 90, "most_new_tokens": 106, "in_the_data": 0, "whole_answers": 0,
        "unseen": {"outputs": 40, "passages": 0, "longest": 20},
        "trained": {"outputs": 30, "passages": 0, "longest": 20}, "seconds": 0.5,
    },
    "forgetting": {
        "passages": 2, "tokens": 200, "base_loss": 3.0, "tuned_loss": 3.2, "base_perplexity": 20.1,
        "tuned_perplexity": 24.5, "difference": 0.2, "low": 0.1, "high": 0.3, "confidence": 0.95,
        "guessing_loss": 11.9, "telling": True, "by_passage": [[2.9, 3.2], [3.1, 3.2]],
        "seconds": 0.5,
    },
    "energy": {"joules": 42_000.0, "counter": "RAPL package-0", "resumed": False},
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


def nasty_page() -> str:
    row = Row(1, "a.jsonl", (Message("user", NASTY), Message("assistant", NASTY)))
    repeated = Repeated(row, row, True, f"so {NASTY}", f"well {NASTY}", NASTY, 60, 55)
    examined = Examined({}, (Sample(row, NASTY, NASTY),), (repeated,))
    return render(LINEAGE, curve(2.0, 1.25), examined)


def test_report_stands_alone_and_escapes_everything() -> None:
    """No address to load, no script, and markup from data or models is shown as text."""
    page = nasty_page()
    parser = Tags()
    parser.feed(page)
    assert parser.addresses == []
    assert "script" not in parser.tags
    assert "url(" not in page
    # name, verdict, finding; question and three answers; question, two texts of what was repeated
    assert page.count("&lt;script&gt;") == 10
    assert parser.tags.count("mark") == 2
    assert "svg" in parser.tags
    assert "42.0 kJ (11.7 Wh)" in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_fits_a_phone(scheme: Any, tmp_path: Path) -> None:
    """At 360 pixels nothing is wider than the screen, and the chart's text is of a size to read; a
    finding's words have the whole width."""
    (tmp_path / "report.html").write_text(nasty_page(), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find())
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        wide, background, heights, reason = page.evaluate(
            """[
                document.documentElement.scrollWidth,
                getComputedStyle(document.body).backgroundColor,
                [...document.querySelectorAll("svg text")].map(
                    one => one.getBoundingClientRect().height
                ),
                document.querySelector(".lint td:nth-child(3)").clientWidth,
            ]"""
        )
        browser.close()
    assert wide == 360
    assert reason > 300
    assert min(height for height in heights if height) > 9
    assert (int(background[4:].split(",")[0]) < 128) is (scheme == "dark")
    assert len(requests) == 1


def test_chart_marks_the_checkpoint_that_was_kept() -> None:
    """One dot an evaluation, the kept one marked, and every coordinate inside the picture."""
    chart = loss_chart(curve(2.0, 1.2, 1.4), best_step=10)
    assert chart.count("<circle") == 3
    assert chart.count('class="dot kept"') == 1
    assert "step 10: validation loss 1.2000, kept" in chart
    assert "nan" not in chart


def test_a_run_of_one_step_without_validation_shows_what_there_is() -> None:
    """Its one loss as a dot, each step once on the axis, a legend of what is drawn, and why there
    are no samples."""
    lineage = {**LINEAGE, "metrics": {**LINEAGE["metrics"], "validation_loss": None}}
    page = render(lineage, [Point(1, 1.0, 2.0, None)], Examined({}))
    assert page.count('<circle class="single"') == 2
    assert page.count('anchor="middle">0</text>') == 2  # of the wide chart and of the narrow one
    assert page.count('anchor="end">1</text>') == 2
    assert "training loss" in page
    assert "validation loss</span>" not in page
    assert "There are none to read: no rows were held out." in page


def test_long_curves_are_thinned() -> None:
    """Ten thousand steps are drawn with a few hundred points."""
    history = [Point(step, step / 100, 2.0, None) for step in range(1, 10_001)]
    assert len(loss_chart(history, 10_000)) < 10_000
    assert loss_chart([], 1) == ""


def gap(*losses: float) -> list[Point]:
    """The same curve with a training loss of a tenth."""
    return [
        Point(point.step, point.epoch, point.loss and point.loss / 10, point.validation_loss)
        for point in curve(*losses)
    ]


def level(*losses: float) -> list[Point]:
    """The same curve after a training loss that was hardly higher than the last validation."""
    return [Point(1, 0.2, losses[-1] * 1.02, None), *curve(*losses)]


@pytest.mark.parametrize(
    ("history", "kind", "words"),
    [
        (curve(), "unknown", "No rows were kept"),
        (curve(1.0), "unknown", "too few"),
        (curve(2.0, 1.0, 0.5), "underfits", "still falling"),
        (level(2.0, 1.99, 1.98), "underfits", "hardly anything was learned"),
        (curve(2.0, 1.0, 0.995), "fits", "levelled off"),
        (curve(2.0, 1.0, 1.01), "fits", "did not improve after it"),
        (curve(2.0, 1.0, 1.5), "overfits", "rose after it, which is overfitting"),
        (gap(2.0, 1.0, 0.995), "overfits", "much better than new ones"),
        (gap(2.0), "overfits", "much better than new ones"),
        ([Point(1, 0.2, 2.0, None), *curve(9.0, 5.0, 2.2)], "underfits", "hardly anything"),
        ([Point(1, 0.2, 1.0, None), *gap(3.0, 2.0, 1.9)], "overfits", "better than new ones"),
    ],
)
def test_verdict_follows_the_curve(history: list[Point], kind: str, words: str) -> None:
    """Overfitting, underfitting, fitting or unknown: the verdict says which, and why."""
    given = verdict(history)
    assert given.kind == kind
    assert words in given.words


@pytest.mark.parametrize(
    ("history", "worse"),
    [
        ([Point(1, 0.2, 2.0, None), *curve(9.0, 5.0, 7.0)], True),
        ([Point(n, n / 4, 4.0 + n, None) for n in (-2, 2, 3, 4)], True),
        ([Point(1, 0.2, 2.0, None), *curve(9.0, 5.0, 2.2)], False),
        (curve(2.0, 1.0, 1.5), False),
    ],
)
def test_a_training_that_ends_above_its_first_loss_has_diverged(
    history: list[Point], worse: bool
) -> None:
    """In the last quarter of its steps, and each time that it was validated."""
    assert bool(diverged(history)) is worse


def with_memorised(**changes: Any) -> Any:
    told = memorising({"memorisation": {**LINEAGE["memorisation"], **changes}})
    assert told is not None
    return told


def test_memorisation_in_words_follows_the_figures() -> None:
    """Good without a passage or where the data repeats itself as much; bad with more; else open."""
    assert with_memorised().state == "good"
    many = {"outputs": 40, "passages": 4, "longest": 80}
    assert with_memorised(unseen=many, in_the_data=4).state == "good"
    bad = with_memorised(unseen=many)
    assert (bad.state, "4 (10%) repeat 50 or more tokens" in bad.words) == ("bad", True)
    assert with_memorised(trained={**many, "outputs": 30}).state == "bad"
    assert with_memorised(whole_answers=1).state == "bad"
    none = {"outputs": 0, "passages": 0, "longest": 0}
    assert with_memorised(unseen=none, trained=none).state == "open"


def test_what_was_not_measured_is_not_told() -> None:
    """An older lineage has no such words, and energy without a counter is not known."""
    assert (memorising({}), forgetting({}), energy({})) == (None, None, "not known")
    told = forgetting(LINEAGE)
    assert told is not None
    assert "3.000 to 3.200 nats a token (perplexity 20.1 to 24.5): +0.200" in told.words
