"""`hub runs resume` of a run whose process died after the training, before it had published."""

import pytest

from hub.cli.train import resume_run
from hub.errors import UsageError
from hub.home import Home
from hub.names import AdapterRef
from hub.registry import Registry
from train.config import TrainConfig
from train.run import run_training


def test_a_finished_run_that_was_not_published_is_published_once(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """It becomes version 1; resumed once more it is finished, and there is no second version."""
    run = run_training(registry, home, asked, progress=lambda progress: None)
    assert registry.versions.last_number(run.adapter) == 0
    resume_run(registry, home, run, as_json=True)
    assert registry.resolve(AdapterRef(run.adapter)).number == 1
    with pytest.raises(UsageError, match="is finished"):
        resume_run(registry, home, run, as_json=True)
    assert registry.versions.last_number(run.adapter) == 1
