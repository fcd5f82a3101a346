"""`hub runs show`: the facts of a finished run's report in the terminal and as JSON."""

from dataclasses import replace

import pytest

from hub.card import render_card
from hub.cli.trained import finish
from hub.home import Home
from hub.manifest import FileEntry, Manifest
from hub.records import Base, Version
from hub.registry import Registry
from tests.command import Hub
from tests.train.test_report import LINEAGE, curve
from train.data.rows import Message, Row
from train.reporting.examine import Examined
from train.reporting.memorisation import Repeated
from train.reporting.report import finish_report
from train.reporting.samples import Sample


@pytest.fixture
def run(registry: Registry, home: Home, base: Base) -> str:
    """A run of the ledger that has ended with everything that a report shows."""
    dataset = registry.ledger.add_dataset(
        digest="e" * 64, name="set", source="set.jsonl", format="messages", rows=40, lint={}
    )
    began = registry.ledger.start_run("colours", "sft", base, dataset, {})
    folder = home.runs / began.id
    folder.mkdir(parents=True)
    row = Row(7, "a.jsonl", (Message("user", "Which?"), Message("assistant", "The red one.")))
    worst = Repeated(row, row, True, "My secret text", "Our secret text", "secret text", 60, 55)
    samples = (Sample(row, "The base says\x1b[2J so.", "The red one."),)
    facts = finish_report(folder, LINEAGE, curve(2.0, 1.25), Examined({}, samples, (worst,)))
    registry.ledger.finish_run(began.id, facts)
    return began.id


def test_it_says_what_the_report_says(run: str, home: Home) -> None:
    """Verdict, curves, cost, samples and what was repeated; nothing of it steers the terminal."""
    hub = Hub(home.root)
    text = hub.ok("runs", "show", run).stdout
    for words in (
        "Learning: underfits", "still falling", "Memorisation: none found", "Forgetting: forgets",
        "validation  █▁  2 to 1.25", "kept", "42.0 kJ (11.7 Wh)", "256 MiB", "base   The base says",
        "60 tokens of row 7, on the training prompt: Which?", "training  Our secret text",
    ):  # fmt: skip
        assert words in text
    assert "\x1b" not in text
    facts = hub.ok("runs", "show", run, "--json").json()
    assert facts["lineage"]["verdict"]["kind"] == "underfits"
    assert facts["lineage"]["forgetting"]["difference"] == 0.2
    assert [point["step"] for point in facts["report"]["curves"]] == [5, 5, 10, 10]
    assert facts["report"]["samples"][0]["data"] == "The red one."
    assert facts["report"]["repeated"][0]["repeated"] == "secret text"


def test_the_end_of_a_training_warns_of_what_the_report_says(
    run: str, registry: Registry, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is bad, on stderr and with the advice; not what is good, nor the data's own warnings."""
    finished = replace(registry.ledger.run(run), config={"publish": False})
    finish(registry, home, finished, as_json=True)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert [line.split(". ")[0] for line in warnings] == [
        "warning: learning: underfits",
        "warning: forgetting: forgets",
    ]
    assert "more epochs may help" in warnings[0]


def test_the_lineage_outlives_the_folder(run: str, home: Home) -> None:
    """Without the run's folder, the figures and words are still there."""
    for path in (home.runs / run).iterdir():
        path.unlink()
    (home.runs / run).rmdir()
    text = Hub(home.root).ok("runs", "show", run).stdout
    assert "Forgetting: forgets" in text
    assert "Held-out" not in text


def test_the_card_has_a_line_each(registry: Registry, base: Base) -> None:
    """Memorisation and forgetting are on a version's card, and on none whose lineage lacks them."""
    manifest = Manifest(base.identity, (FileEntry("w", "0" * 64, 1),))
    made: Version = registry.versions.add("colours", manifest, rank=4, lineage=LINEAGE)[0]
    page = render_card(made)
    assert "- memorisation: 0 of 40 answers to unseen prompts and 0 of 30" in page
    assert "- forgetting: 3.200 nats a token on general text, the base 3.000 (+0.200)" in page
    other = Manifest(base.identity, (FileEntry("w", "1" * 64, 1),))
    bare = registry.versions.add("colours", other, rank=4, lineage={})[0]
    assert "forgetting" not in render_card(bare)
