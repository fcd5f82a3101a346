"""Running, watching, ending and resuming a training, as people do: from processes of their own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from hub.cli.main import cli
from hub.cli.training_bar import TrainingBar, duration, news
from hub.home import Home
from hub.records import Base
from hub.registry import Registry
from tests.command import Hub
from tests.train.conftest import Maker, chats
from train.config import Settings, TrainConfig, settle
from train.configtext import MEANINGS, settled_yaml
from train.presets import BaseFacts
from train.progress import Progress

LONG = """
adapter: colours
epochs: 2
batch_size: 8
rank: 4
early_stopping_patience: 0
report_prompts: 0
publish: false
"""


@pytest.fixture
def hub(home: Home, tiny_base: Base, jsonl: Maker) -> Hub:
    """A home with a tiny base, forty rows and a run's config beside it."""
    (home.root / "train.jsonl").write_text(jsonl(chats(40)).read_text())
    (home.root / "run.yaml").write_text(f"data: train.jsonl\n{LONG}")
    return Hub(home.root)


@pytest.fixture
def here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`hub` in this process, which has imported torch already."""
    monkeypatch.chdir(hub.home)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_cancelled_from_elsewhere_watched_and_resumed(
    hub: Hub, here: Callable[..., Result], registry: Registry
) -> None:
    """`hub runs cancel` ends a run of another process, which `hub runs watch` follows: both exit
    with 130, the run is `cancelled`. `hub train --resume` goes on with it, and with no other
    settings: it finishes, and is not published, as it was told."""
    command = [sys.executable, "-m", "hub"]
    where = {"cwd": hub.home, "env": hub.environment(), "text": True}
    train = subprocess.Popen([*command, "train", "run.yaml"], stderr=subprocess.PIPE, **where)  # type: ignore[call-overload]
    while not (runs := registry.ledger.runs()):
        assert train.poll() is None, train.stderr.read()
        time.sleep(0.05)
    (run,) = runs
    watch = subprocess.Popen([*command, "runs", "watch", run.id], stdout=subprocess.PIPE, **where)  # type: ignore[call-overload]
    assert "cancelled" in hub.ok("runs", "cancel", run.id).stdout
    assert train.wait(60) == 130
    assert f"the run {run.id} was cancelled" in train.stderr.read()
    assert watch.wait(60) == 130
    kinds = [line.split()[1] for line in watch.stdout.read().splitlines()]
    assert (kinds[0], kinds[-1]) == ("started", "cancelled")
    assert json.loads(hub.ok("runs", "ls", "--json").stdout)[0]["state"] == "cancelled"
    assert hub("runs", "cancel", run.id).status == 1
    other = hub("train", "run.yaml", "--resume", "--rank", "8")
    assert other.status == 2
    assert "rank: 8, and it began with 4" in other.stderr
    resumed = here("train", "run.yaml", "--resume")
    assert resumed.stdout.splitlines()[-1] == f"run {run.id}"
    assert "step 10/10" in resumed.stderr
    assert registry.ledger.run(run.id).status == "finished"
    assert not registry.versions.last_number("colours")
    assert hub("runs", "watch", run.id).status == 0


def test_a_dry_run_writes_nothing(here: Callable[..., Result], home: Home) -> None:
    """It lints, counts, settles, estimates memory, times a step; every row and every file
    stay as they are."""
    before = contents(home)
    told = json.loads(here("train", "run.yaml", "--dry-run", "--json").stdout)
    assert told["dataset"]["rows"] == 40
    assert told["settings"]["rank"] == 4
    assert told["lint"]["tokens"]["total"] > 1000
    estimate = told["estimate"]
    assert estimate["fits"] is True
    assert estimate["memory"]["total"] < estimate["free"]
    assert estimate["timed_by"] == "a step that was timed just now"
    assert estimate["seconds"] > 0
    assert contents(home) == before


def contents(home: Home) -> dict[str, object]:
    """Every file, and of the registry every row."""
    found = {
        str(path): path.read_bytes()
        for path in home.root.rglob("*")
        if path.is_file() and not path.name.startswith(home.registry.name)
    }
    with sqlite3.connect(home.registry) as registry:
        rows = list(registry.iterdump())
    registry.close()
    return {**found, "registry": rows}


def test_errors_of_every_kind_at_once(hub: Hub) -> None:
    """An unknown setting, a wrong type, a number out of range, a setting that the method does not
    read, a bad name, a missing file and a missing base: one refusal that names them all."""
    (hub.home / "bad.yaml").write_text(
        "adapter: Not A Name\ndata: nowhere.jsonl\nbase: nothing\nlearning_rate: fast\n"
        "rank: 0\nbeta: 0.2\nbatchsize: 4\n"
    )
    refused = hub("train", "bad.yaml")
    assert (refused.status, refused.stdout) == (2, "")
    lines = refused.stderr
    for words in (
        "adapter: 'Not A Name' can't name an adapter",
        "learning_rate: 'fast' should be a valid number",
        "rank: 0 should be greater than or equal to 1",
        "batchsize: there is no such setting; did you mean batch_size?",
        "beta: goes with method dpo or kto",
        "data: there is no file nowhere.jsonl",
        "base: there is no base 'nothing' (here are tiny)",
    ):
        assert words in lines


def test_the_printed_config_can_be_fed_back(hub: Hub, here: Callable[..., Result]) -> None:
    """Every setting has its line of meaning; what is printed of a run, with nothing left to a
    preset, gives the same settings again; without a run it prints the defaults."""
    assert MEANINGS.keys() == TrainConfig.model_fields.keys()
    printed = here("train", "run.yaml", "--print-config", "--lr", "0.00005").stdout
    (hub.home / "again.yaml").write_text(printed)
    assert "learning_rate: 5.0e-05\n" in printed
    assert printed.count("\n# ") >= len(MEANINGS)

    def settings(path: str) -> Settings:
        made = settled(TrainConfig.load(hub.home / path, {"learning_rate": 5e-5}))
        return replace(made, preset_reason="", filled=(), data=())

    assert settings("again.yaml") == replace(settings("run.yaml"), preset="tiny")
    full = TrainConfig.load(None, {"adapter": "a", "data": "x", "method": "full", "rank": 4})
    (hub.home / "full.yaml").write_text(settled_yaml(settled(full)))
    assert "\n# alpha: 4\n" in (hub.home / "full.yaml").read_text()
    TrainConfig.load(hub.home / "full.yaml", {})
    assert "adapter: my-adapter" in Hub(hub.home.parent).ok("train", "--print-config").stdout


def settled(config: TrainConfig) -> Settings:
    return settle(config, base_name="tiny", base=BaseFacts(50_000, 32, "llama", 128), rows=40)


@pytest.fixture
def bar(capfd: pytest.CaptureFixture[str]) -> Iterator[TrainingBar]:
    with TrainingBar() as bar:
        yield bar


def test_ctrl_c_ends_with_the_next_step_and_then_at_once(bar: TrainingBar) -> None:
    """The first asks for the end while a model is trained; the second, or the first while nothing
    is trained, ends the program. SIGTERM does the same."""
    assert bar(Progress("training", step=1, total=9)) is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert bar(Progress("training", step=2, total=9)) == "cancel"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with TrainingBar() as other:
        other(Progress("checking"))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_without_a_terminal_there_is_a_line_now_and_then(
    bar: TrainingBar, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first step, each evaluation and the last step; not the hundred between."""
    for step in range(1, 101):
        bar(Progress("training", step=step, total=100, loss=0.5, tokens_per_second=1234.0,
                     seconds_left=100.0 - step))  # fmt: skip
    bar(Progress("training", step=100, total=100, loss=0.5, validation_loss=0.25, what="evaluated"))
    assert capfd.readouterr().err.splitlines() == [
        "step 1/100  loss 0.500  1,234 tokens/s  2 min left",
        "step 100/100  loss 0.500  1,234 tokens/s",
        "step 100/100  loss 0.500  validation 0.250",
    ]
    assert [duration(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]
    assert news(Progress("training")) == ""
