"""Full fine-tuning for real on a tiny base: as an adapter that was factored, and as a base."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.basefiles import read_base
from hub.cli.trained import register_base
from hub.errors import Conflict, InvalidConfig, TrainingError
from hub.home import Home
from hub.inspect import inspect_adapter
from hub.records import Base
from hub.registry import Registry
from tests.train.conftest import make_rows, make_settings
from tests.train.test_sft import Killed, ignore
from train.config import Settings, TrainConfig
from train.progress import Progress, TrainResult
from train.run import run_training
from train.templates.tokens import ChatTokenizer
from train.trainers.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from train.trainers.factor import compare, factor, told
from train.trainers.full import require_disk, train_full
from train.trainers.loading import load_base
from train.trainers.losses import loss_on

LAYER = "model.layers.1.self_attn.q_proj"


def full(**changes: object) -> Settings:
    return make_settings(method="full", learning_rate=0.005, **changes)


class Trained:
    """One uninterrupted full fine-tuning that several tests look at."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = str(base), folder
        self.rows = make_rows()
        self.result: TrainResult = train_full(
            full(), *self.rows, self.base, folder, progress=ignore
        )
        self.before = load_file(base / "model.safetensors")
        self.after = load_file(self.result.adapter / "model.safetensors")


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(model_folder, tmp_path_factory.mktemp("full"))


def test_every_weight_is_trained_and_the_model_is_whole(trained: Trained) -> None:
    """Embeddings and norms move too; tokenizer and template are the base's, byte for byte."""
    assert trained.before.keys() == trained.after.keys()
    for name, weight in trained.before.items():
        assert not np.array_equal(weight, trained.after[name]), name
    for file in ("tokenizer.json", "chat_template.jinja"):
        copied = trained.result.adapter / file
        assert copied.read_bytes() == (Path(trained.base) / file).read_bytes()
    chat = ChatTokenizer.load(str(trained.result.adapter))
    model = load_base(str(trained.result.adapter)).eval()
    loss = loss_on(model, chat, trained.rows[1])
    assert loss == pytest.approx(trained.result.validation_loss, rel=0.1)
    assert loss < 0.9 * loss_on(load_base(trained.base).eval(), chat, trained.rows[1])


def test_stopped_and_resumed_gives_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    """Stopped in the second epoch, then finished."""

    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        train_full(full(), *trained.rows, trained.base, tmp_path, progress=stop)
    result = train_full(full(), *trained.rows, trained.base, tmp_path, progress=ignore)
    for path in trained.result.adapter.iterdir():
        assert (result.adapter / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_difference_is_factored_as_well_as_can_be(trained: Trained, tmp_path: Path) -> None:
    """At every rank the error of a layer is that of numpy's singular values, and what the files
    hold is that near to the difference; at full rank it is the difference itself."""
    difference = trained.after[f"{LAYER}.weight"] - trained.before[f"{LAYER}.weight"]
    values = np.linalg.svd(difference.astype(np.float64), compute_uv=False)
    norm = np.linalg.norm(values)
    errors = []
    for rank in (4, 64):
        out = tmp_path / str(rank)
        facts = factor(replace(full(), rank=rank), trained.base, trained.result.adapter, out)
        assert facts.modules[LAYER] == pytest.approx(
            float(np.linalg.norm(values[rank:]) / norm), abs=1e-5
        )
        tensors = load_file(out / ADAPTER_WEIGHTS)
        up, down = (tensors[f"base_model.model.{LAYER}.lora_{half}.weight"] for half in "BA")
        left = np.linalg.norm(difference - up @ down) / norm
        assert left == pytest.approx(facts.modules[LAYER], abs=1e-5)
        config = json.loads((out / ADAPTER_CONFIG).read_text())
        assert config["r"] == config["lora_alpha"] == rank
        errors.append(facts.relative_error)
    assert errors[0] > 0.1
    assert errors[1] < 1e-5
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= facts.not_held.keys()
    assert not any("q_proj" in name for name in facts.not_held)
    assert 0 < facts.not_held_share < 1


def test_its_loss_is_compared_and_a_useless_one_refused(trained: Trained, tmp_path: Path) -> None:
    """Base, full and factored on validation rows; one no better than the base is an error."""
    settings = replace(full(), rank=16)
    folder = trained.result.adapter
    facts = factor(settings, trained.base, folder, tmp_path / "a").to_json()
    facts |= compare(settings, trained.base, folder, tmp_path / "a", trained.rows[1])
    assert facts["loss"]["adapter"] < facts["loss"]["base"]
    assert facts["loss"]["full"] < facts["loss"]["base"]
    assert 0 < facts["kept"] < 1.5
    assert "of the gain is kept" in told(facts)[1]
    tensors = load_file(tmp_path / "a" / ADAPTER_WEIGHTS)
    from safetensors.numpy import save_file

    worse = {name: -t if "lora_B" in name else t for name, t in tensors.items()}
    save_file(worse, tmp_path / "a" / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="nothing of what was learned is left: loss base"):
        compare(settings, trained.base, folder, tmp_path / "a", trained.rows[1])


def test_a_base_whose_checkpoints_would_not_fit_is_refused(tmp_path: Path) -> None:
    """With what they take and what there is, before anything is loaded."""
    with pytest.raises(InvalidConfig) as refusal:
        require_disk(full(), 10**12, tmp_path)
    (disk,) = refusal.value.problems
    assert "checkpoints take about 36,000.0 GB" in disk
    assert "method sft" in disk
    require_disk(full(), 10_000, tmp_path)


def test_a_run_publishes_the_factored_adapter(
    registry: Registry, home: Home, asked: TrainConfig, tiny_base: Base
) -> None:
    """The run's adapter passes the checks of publishing, its error is in the lineage, and the model
    that it was made of is gone."""
    config = asked.model_copy(update={"method": "full", "learning_rate": 0.005, "rank": 8})
    run = run_training(registry, home, config, progress=ignore)
    assert inspect_adapter(home.runs / run.id / "adapter", tiny_base).rank == 8
    facts = run.lineage
    assert facts is not None
    assert 0 < facts["factored"]["relative_error"] < 1
    assert facts["factored"]["loss"]["adapter"] < facts["factored"]["loss"]["base"]
    assert not (home.runs / run.id / "model").exists()
    page = (home.runs / run.id / "report.html").read_text()
    assert f"{facts['factored']['relative_error']:.2%}" in page


def test_a_base_of_its_own(
    registry: Registry, home: Home, asked: TrainConfig, tiny_base: Base
) -> None:
    """It is registered with its hashes; doing that again changes nothing, and its name is taken."""
    changes = {"method": "full", "publish_as": "base", "new_base": "own", "rank": None,
               "epochs": 1, "learning_rate": 0.005}  # fmt: skip
    config = asked.model_copy(update=changes)
    run = run_training(registry, home, config, progress=ignore)
    assert not (home.runs / run.id / "adapter").exists()
    base = register_base(registry, home, run)
    assert base.name == "own"
    assert base.digest != tiny_base.digest
    identity, shapes = read_base(home.bases / "own", "own")
    assert (identity.digest(), shapes) == (base.digest, tiny_base.shapes)
    assert register_base(registry, home, run) == base
    runs = len(registry.ledger.runs())
    with pytest.raises(Conflict, match="'own' is the name of a base"):
        run_training(registry, home, config, progress=ignore)
    assert len(registry.ledger.runs()) == runs


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"publish_as": "base"}, "publish_as: goes with method full"),
        ({"method": "full", "new_base": "b"}, "new_base: goes with publish_as: base"),
        ({"method": "full", "publish_as": "base", "rank": 8}, "rank: a base of its own has no"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(
    given: dict[str, object], problem: str
) -> None:
    """What only one way to publish reads is refused in the others."""
    with pytest.raises(InvalidConfig, match=problem):
        TrainConfig.load(None, {"adapter": "a", "data": "x.jsonl", **given})
