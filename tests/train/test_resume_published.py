"""`hub runs resume` of a run whose process died after the training, before it had published."""

import pytest
from click.exceptions import Exit

from hub.cli.train import resume_run
from hub.errors import UsageError
from hub.home import Home
from hub.names import AdapterRef
from hub.registry import Registry
from train.config import TrainConfig
from train.run import run_training


def test_a_finished_run_that_was_not_published_is_published_once(
    registry: Registry,
    home: Home,
    asked: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interrupted as it is published, it says what to do. Then it becomes version 1; resumed once
    more it is finished and published, and there is no second version."""
    run = run_training(registry, home, asked, progress=lambda progress: None)
    assert registry.versions.last_number(run.adapter) == 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hub.store.Store.place", interrupt)
        with pytest.raises(Exit) as stopped:
            resume_run(registry, home, run, as_json=False)
    assert stopped.value.exit_code == 130
    assert f"`hub runs resume {run.id}` publishes it" in capsys.readouterr().err
    resume_run(registry, home, run, as_json=True)
    assert registry.resolve(AdapterRef(run.adapter)).number == 1
    with pytest.raises(UsageError, match="is finished") as refusal:
        resume_run(registry, home, run, as_json=True)
    assert refusal.value.hint == f"It is published: {run.adapter}@1."
    assert registry.versions.last_number(run.adapter) == 1
