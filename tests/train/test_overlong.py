"""Rows longer than a run can take: refused, left out or cut, and always told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidConfig, InvalidData, RunStopped
from hub.home import Home
from hub.registry import Registry
from tests.train.conftest import Maker, chat, chats, dataset
from train.config import TrainConfig
from train.data.rows import Message
from train.linting.lint import lint
from train.linting.overlong import Overlong, fitting
from train.planning.plan import planned, settled
from train.progress import Progress
from train.run import run_training
from train.templates.tokens import ChatTokenizer
from train.trainers.sft import token_sets

ANSWER_LONG = chat("What of the long car?", "[Colour: red] It is red. " * 40)
QUESTION_LONG = chat("What of the red car? " * 40, "[Colour: red] It is a red car.")
ROWS = [*chats(40), ANSWER_LONG, QUESTION_LONG]


def config(asked: TrainConfig, data: Path, mode: Overlong, **more: Any) -> TrainConfig:
    return asked.model_copy(update={"data": (data,), "overlong": mode, **more})


def test_overlong_rows_refuse_the_data_unless_told_otherwise(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """The rows are named, the way out as well, and nothing is written."""
    asked = asked.model_copy(update={"data": (jsonl(ROWS),)})
    with pytest.raises(InvalidData, match=r"longer than 128 tokens.*rows 41, 42") as refusal:
        run_training(registry, home, asked, progress=lambda _: None)
    assert "--overlong drop" in (refusal.value.hint or "")
    assert registry.ledger.runs() == []


@pytest.mark.parametrize(("mode", "trained"), [("drop", 40), ("truncate", 41)])
def test_rows_left_out_and_cut_are_told_and_kept_in_the_lineage(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker, mode: Overlong, trained: int
) -> None:
    """Resumed after a stop it is the same; the data set is the one that was given."""
    told: list[str] = []

    def stop(progress: Progress) -> None:
        told.extend([progress.note] if progress.note else [])
        if progress.phase == "training" and progress.step == 2:
            raise KeyboardInterrupt

    asked = config(asked, jsonl(ROWS), mode, epochs=1)
    with pytest.raises(RunStopped):
        run_training(registry, home, asked, progress=stop)
    (run,) = registry.ledger.runs()
    resumed = asked.model_copy(update={"overlong": "error"})  # what it was told is in its record
    run = run_training(registry, home, resumed, progress=lambda _: None, resume=run)
    assert run.lineage is not None
    facts = run.lineage["dataset"]
    assert (facts["rows"], facts["training_rows"] + facts["validation_rows"]) == (42, trained)
    found = {
        finding["rule"]: [place["row"] for place in finding["rows"]]
        for finding in run.lineage["lint"]["findings"]
        if finding["rule"] in ("overlong", "cut-away")
    }
    dropped = {"overlong": [41, 42]}
    assert found == (dropped if mode == "drop" else {"overlong": [41], "cut-away": [42]})
    assert run.lineage["config"]["overlong"] == mode
    assert [note.split(" rows: ")[0] for note in told if " rows: " in note] == (
        ["2 of 42"] if mode == "drop" else ["1 of 42", "1 of 42"]
    )


def test_the_preset_is_chosen_by_the_rows_that_are_left(
    registry: Registry,
    home: Home,
    asked: TrainConfig,
    jsonl: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """42 rows of which two are left out are 40."""
    monkeypatch.setattr("train.presets.TINY_PARAMETERS", 0)
    monkeypatch.setattr("train.presets._STYLE_ROWS", 41)
    plan = planned(registry, home, config(asked, jsonl(ROWS), "drop"), lambda _: None)
    assert (plan.settings.preset, plan.settings.preset_reason) == ("style", "40 rows, under 41")
    cut = settled(registry, home, config(asked, jsonl(ROWS), "truncate"), lambda _: None)
    assert cut.preset == "task"


def test_a_cut_row_has_something_to_learn(model_folder: Path) -> None:
    """At any length, every row that is kept has a trained token, and none is longer."""
    tokenizer = ChatTokenizer.load(str(model_folder))
    pairs = [[message["content"] for message in row["messages"]] for row in ROWS]
    data = dataset(*((question, answer) for question, answer in pairs))
    kept_rows = []
    for cut in (20, 30, 40, 128):
        report = lint(
            data,
            count_tokens=lambda row, cut=cut: tokenizer.count(row, cut),  # type: ignore[misc]
            max_length=cut,
            overlong="truncate",
        )
        kept = fitting(data, report, "truncate")
        kept_rows.append(len(kept))
        assert "no-trainable-token" not in {finding.rule for finding in report.findings}
        if not len(kept):
            continue
        train_set, _ = token_sets(tokenizer, kept.rows, [], cut)
        assert max(map(len, train_set["input_ids"])) <= cut
        assert all(set(labels) != {-100} for labels in train_set["labels"])
        assert report.tokens is not None
        assert report.tokens.total == sum(map(len, train_set["input_ids"]))
        learned = [label for labels in train_set["labels"] for label in labels if label != -100]
        assert report.tokens.trained == len(learned)
    assert kept_rows == sorted(kept_rows)
    assert kept_rows[0] < kept_rows[-1] == 41


def test_too_few_rows_left_are_refused(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """What is left must be enough to train on, as if the other rows had not been there."""
    few = config(asked, jsonl([*chats(7), ANSWER_LONG]), "drop")
    with pytest.raises(InvalidData, match="too-few-rows: 7 rows"):
        run_training(registry, home, few, progress=lambda _: None)


def test_a_pair_is_dropped_for_either_of_its_answers() -> None:
    """Only whole answers can be compared: a pair is left out, and cutting is refused."""
    data = dataset(*((f"How is it {at}?", "Fine.") for at in range(3)))
    rows = tuple(
        replace(row, rejected=(Message("assistant", "Bad. " * 50 * (row.number == 2) + "Bad."),))
        for row in data.rows
    )
    report = lint(
        data.with_rows(rows),
        count_tokens=lambda row: (len(row.answer.split()), 1),
        max_length=20,
        overlong="drop",
    )
    kept = fitting(data.with_rows(rows), report, "drop")
    assert [row.number for row in kept.rows] == [1, 3]
    for method in ("dpo", "kto"):
        with pytest.raises(InvalidConfig, match="overlong: dpo and kto compare whole answers"):
            TrainConfig.load(
                None,
                {"adapter": "a", "data": "x.jsonl", "method": method, "overlong": "truncate"},
            )
