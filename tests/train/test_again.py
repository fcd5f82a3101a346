"""Which runs `hub train --resume` may go on with."""

from pathlib import Path
from typing import Any

import pytest

from hub.records import Run
from train.again import differing
from train.config import TrainConfig, settle
from train.presets import BaseFacts

ASKED: dict[str, Any] = {"adapter": "a", "data": ["x.jsonl"], "rank": 8, "validation": 0.2}
FACTS = BaseFacts(parameters=10_000, hidden=64, family="llama", context=128)


def began(sweep: dict[str, Any] | None = None) -> Run:
    config = TrainConfig.model_validate(ASKED)
    recorded = settle(config, base_name="base", base=FACTS, rows=100).to_json()
    if sweep:
        recorded["sweep"] = {**sweep, "asked": {**config.to_json(), "data": recorded["data"]}}
    return Run("1", "a", "sft", "failed", "base", "0", recorded, 1, "", None, None, None)


def written(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"adapter": "a", "data": "x.jsonl", **settings})


@pytest.mark.parametrize(
    "same",
    [{}, {"rank": 8, "base": "base"}, {"preset": "auto", "heldout": []}, {"preset": "tiny"}],
)
def test_the_same_settings_and_those_not_written(same: dict[str, Any]) -> None:
    """What is written is what the run began with; what is not is as it began."""
    assert differing(began(), written(**same)) == []


def test_each_other_setting_is_named() -> None:
    """With what it is now and what it was."""
    other = written(rank=16, data=["/y.jsonl"], epochs=3, sweep="lr")
    assert differing(began(), other) == [
        f"data: /y.jsonl, and it began with {Path('x.jsonl').absolute()}",
        "rank: 16, and it began with 8",
        "epochs: 3, and it began with 6",
        "sweep: lr, and it began with none",
    ]


@pytest.mark.parametrize("sweep", ["lr", "lr=1e-3,2e-3"])
def test_a_sweep_is_compared_by_what_it_was_asked_for(sweep: str) -> None:
    """Key and values, where they are written; a run without a sweep is another."""
    run = began({"id": "s", "key": "learning_rate", "values": [1e-3, 2e-3], "value": 1e-3})
    assert differing(run, written(sweep=sweep)) == []
    assert differing(run, written(sweep="rank"))[0].startswith("sweep: rank, and it began with l")
    assert differing(run, written(sweep="lr=1e-3,1e-2"))
    assert differing(run, written()) == ["sweep: none, and it began with one of learning_rate"]
