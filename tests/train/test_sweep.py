"""A sweep tries several values, keeps the best, and goes on where it was killed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.cli.main import cli
from hub.errors import InvalidConfig, RunStopped, TrainingError, UnknownRun, UsageError
from hub.home import Home
from hub.registry import Registry
from train.config import TrainConfig
from train.progress import Progress, Wanted
from train.sweep import Outcome, resume_sweep, run_sweep, runs_of
from train.sweepplan import parse_sweep, values_around


def ignore(progress: Progress) -> None:
    """Report nothing."""


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("lr=1e-3,5e-3", "learning_rate", (1e-3, 5e-3)),
        ("learning-rate = 0.1, 0.2, 0.1", "learning_rate", (0.1, 0.2)),
        ("rank=8,16", "rank", (8, 16)),
        ("lr", "learning_rate", None),
    ],
)
def test_what_is_asked_for(text: str, key: str, values: tuple[float, ...] | None) -> None:
    """One key by its own name or `lr`; values once each; none means around the preset's."""
    asked = parse_sweep(text)
    assert (asked.key, asked.values) == (key, values)


@pytest.mark.parametrize("text", ["beta=0.1,0.2", "seed=1,2", "rank=8", "rank=a,b", "epochs", "="])
def test_what_can_not_be_swept_is_refused(text: str) -> None:
    """Keys that change the loss or mean nothing, one value, and values that are no numbers."""
    with pytest.raises(UsageError):
        parse_sweep(text)
    with pytest.raises(InvalidConfig, match="sweep: "):
        TrainConfig.load(None, {"adapter": "a", "data": "x", "sweep": text})


def test_three_values_around_the_presets() -> None:
    """A third and three times a learning rate, half and twice a rank, within what engines take."""
    assert values_around("learning_rate", 5e-3) == (1.7e-3, 5e-3, 1.5e-2)
    assert values_around("rank", 16) == (8, 16, 32)
    assert values_around("rank", 64) == (32, 64)


def test_a_sweep_without_validation_is_refused() -> None:
    """There is nothing to compare by."""
    with pytest.raises(InvalidConfig, match="validation: a sweep compares"):
        TrainConfig.load(None, {"adapter": "a", "data": "x", "sweep": "lr", "validation": 0})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"sweep": "lr=nan,1e-3,5"}, r"sweep: learning_rate: nan .*\n.*sweep: learning_rate: 5"),
        ({"sweep": "rank=4,8", "continue_from": "a@1"}, "sweep: rank: is the parent's"),
        ({"sweep": "rank", "continue_from": "a@1"}, "sweep: rank: is the parent's"),
        ({"sweep": "alpha=4,8", "method": "full"}, "sweep: alpha: goes with an adapter"),
    ],
)
def test_values_are_checked_with_the_config(given: dict[str, str], problem: str) -> None:
    """So a dry run refuses them too, and all of them at once; a value that is set is no fault."""
    with pytest.raises(InvalidConfig, match=problem):
        TrainConfig.load(None, {"adapter": "a", "data": "x", **given})
    TrainConfig.load(None, {"adapter": "a", "data": "x", "rank": 8, "sweep": "rank=4,16"})


def test_a_full_fine_tuning_is_judged_by_what_is_published(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """The full models of two ranks are the same; their adapters are not, and the better is kept."""
    full = {"method": "full", "learning_rate": 0.005, "rank": None}
    config = swept(asked, "rank=1,16").model_copy(update=full)
    outcome = run_sweep(registry, home, config, progress=ignore)
    one, other = (tried.validation_loss for tried in outcome.tried)
    assert one is not None
    assert other is not None
    assert other < one
    checked(registry, home, outcome)


def swept(asked: TrainConfig, sweep: str) -> TrainConfig:
    return asked.model_copy(update={"sweep": sweep, "epochs": 1})


def checked(registry: Registry, home: Home, outcome: Outcome) -> None:
    """The best is the one with the lowest loss, and the only one that still has an adapter."""
    losses = {t.run: t.validation_loss for t in outcome.tried if t.validation_loss is not None}
    assert outcome.best.id == min(losses, key=lambda run: losses[run])
    kept = [t.run for t in outcome.tried if (home.runs / t.run / "adapter").is_dir()]
    assert kept == [outcome.best.id]
    assert [run.id for run in runs_of(registry, outcome.id)] == [t.run for t in outcome.tried]


def test_a_killed_sweep_goes_on(registry: Registry, home: Home, asked: TrainConfig) -> None:
    """Stopped within its second run: the first is not run again, the second resumed, the third
    (at which nothing is learned) fails and is one result among the others; the best is kept."""
    began: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == 1:
            began.append(progress.step)
            if len(began) == 2:
                raise KeyboardInterrupt

    config = swept(asked, "lr=2e-3,2e-2,1e-12")
    with pytest.raises(RunStopped):
        run_sweep(registry, home, config, progress=stop)
    first, second = reversed(registry.ledger.runs())
    assert (first.status, second.status) == ("finished", "cancelled")
    sweep = first.config["sweep"]["id"]
    outcome = resume_sweep(registry, home, sweep, progress=ignore)
    assert [tried.value for tried in outcome.tried] == [2e-3, 2e-2, 1e-12]
    assert [tried.run for tried in outcome.tried][:2] == [first.id, second.id]
    assert registry.ledger.run(first.id).finished_at == first.finished_at
    assert outcome.best.id == second.id
    assert "changes nothing" in (outcome.tried[2].error or "")
    checked(registry, home, outcome)
    facts = outcome.best.lineage
    assert facts is not None
    assert facts["config"]["sweep"]["id"] == sweep
    assert str(Path(config.data[0]).parent) not in str(facts["config"])


def test_a_sweep_is_resumed_by_its_id(
    registry: Registry, home: Home, asked: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hub runs resume SWEEP` runs what is left, shows all values and publishes the best."""

    def stop(progress: Progress) -> Wanted | None:
        return "cancel" if progress.phase == "training" else None

    with pytest.raises(RunStopped):
        run_sweep(registry, home, swept(asked, "lr=2e-3,2e-2"), progress=stop)
    (first,) = registry.ledger.runs()
    assert first.status == "cancelled"
    monkeypatch.setenv("HUB_HOME", str(home.root))
    done = CliRunner().invoke(cli, ["runs", "resume", first.config["sweep"]["id"]])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("best") == 1
    assert [version.number for version in registry.versions.of("colours")] == [1]
    assert {run.status for run in registry.ledger.runs()} == {"finished"}


def test_a_value_that_can_not_be_stops_it_before_the_first_run(
    registry: Registry, home: Home, asked: TrainConfig
) -> None:
    """All values are checked first; and an unknown sweep is not found."""
    with pytest.raises(InvalidConfig, match="rank"):
        run_sweep(registry, home, swept(asked, "rank=8,1024"), progress=ignore)
    assert registry.ledger.runs() == []
    with pytest.raises(UnknownRun, match="no sweep 'sweep-1'"):
        resume_sweep(registry, home, "sweep-1", progress=ignore)


def test_all_runs_failing_is_an_error(registry: Registry, home: Home, asked: TrainConfig) -> None:
    """Nothing to keep: the error has the last run's reason."""
    with pytest.raises(TrainingError, match=r"every run of sweep-.* failed; the last: .*nothing"):
        run_sweep(registry, home, swept(asked, "lr=1e-12,2e-12"), progress=ignore)
    assert {run.status for run in registry.ledger.runs()} == {"failed"}
