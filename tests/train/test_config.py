"""Configs: flags win over files, presets fill the rest, and all problems come at once."""

import os
import shlex
from pathlib import Path

import pytest

from hub.cli.train import _asked, train
from hub.errors import InvalidConfig, InvalidData
from hub.registry import Registry
from train.config import Settings, TrainConfig, settle
from train.presets import BaseFacts, choose, learning_rate

TINY = BaseFacts(1_700_000, 192, "llama", 1024)
QWEN = BaseFacts(600_000_000, 1024, "qwen3", 40960)
RECIPES = sorted((Path(__file__).parents[2] / "train" / "recipes").glob("*.yaml"))


def test_five_errors_are_reported_together(tmp_path: Path) -> None:
    """A config with five faults gets one refusal that names all five and says where."""
    path = tmp_path / "run.yaml"
    path.write_text(
        "adapter: Not A Name\ndata: train.jsonl\nrank: 0\nlearning_rate: fast\n"
        "quantize: int3\nbatchsize: 4\n"
    )
    with pytest.raises(InvalidConfig) as refusal:
        TrainConfig.load(path, {})
    problems = {problem.split(":")[0]: problem for problem in refusal.value.problems}
    assert set(problems) == {"adapter", "rank", "learning_rate", "quantize", "batchsize"}
    assert "lower-case" in problems["adapter"]
    assert "did you mean batch_size?" in problems["batchsize"]
    assert refusal.value.where == str(path)
    assert refusal.value.exit_code == 2


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """A flag that is given replaces the file's setting; one that is not leaves it."""
    path = tmp_path / "run.yaml"
    path.write_text("adapter: support\ndata: [a.jsonl, b.jsonl]\nrank: 8\nepochs: 5\n")
    config = TrainConfig.load(path, {"rank": 32, "epochs": None})
    assert (config.rank, config.epochs) == (32, 5)
    assert config.data == (Path("a.jsonl"), Path("b.jsonl"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not valid YAML"),
        ("- a\n", "`setting: value`"),
        ("adapter: 2026-13-45\n", "month must be in"),
        (f"rank: {'[' * 5000}", "recursion depth"),
        ("rank: 8\nseed: 1\nrank: 16\n", "rank is set already, on line 1"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A file that is not a mapping in YAML is refused with its name."""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InvalidData, match=reason):
        TrainConfig.load(path, {})
    with pytest.raises(InvalidData, match="No such file"):
        TrainConfig.load(tmp_path / "none.yaml", {})


def test_a_continued_adapter_keeps_its_shape() -> None:
    """Rank, alpha and rsLoRA can't be set where they are the parent's, which must be a version."""
    given = {"adapter": "support", "data": "a.jsonl"}
    for shape in ({"rank": 8}, {"alpha": 16}, {"rslora": True}):
        with pytest.raises(InvalidConfig, match="leave it out"):
            TrainConfig.load(None, {**given, "continue_from": "support@1", **shape})
    with pytest.raises(InvalidConfig, match="one version"):
        TrainConfig.load(None, {**given, "continue_from": "a*0.5+b*0.5"})


@pytest.mark.parametrize(
    ("base", "rows", "preset"),
    [(TINY, 400, "tiny"), (QWEN, 50, "style"), (QWEN, 400, "task"), (QWEN, 9000, "knowledge")],
)
def test_auto_follows_base_and_rows(base: BaseFacts, rows: int, preset: str) -> None:
    """`auto` goes by the base's size first, then by the number of rows."""
    assert choose("auto", base=base, rows=rows)[0].name == preset
    assert choose("style", base=base, rows=rows)[0].name == "style"


@pytest.mark.parametrize(
    ("rows", "learned", "preset", "reason"),
    [
        (50, 20_000, "style", "50 rows"),
        (400, 30_000, "task", "400 rows, 30,000 tokens"),
        (9000, 60_000, "task", "9,000 rows, 60,000 tokens"),
        (4000, 2_000_000, "knowledge", "2,000,000 tokens to learn"),
    ],
)
def test_auto_counts_the_tokens_that_are_learned(
    rows: int, learned: int, preset: str, reason: str
) -> None:
    """Many short labels are a task, few long texts are knowledge; and it says why."""
    chosen, why = choose("auto", base=QWEN, rows=rows, learned=learned)
    assert chosen.name == preset
    assert reason in why


@pytest.mark.parametrize(
    ("method", "rate", "beta"),
    [("sft", 5.3e-4, None), ("full", 5.3e-5, None), ("dpo", 1e-5, 0.1), ("kto", 1e-5, 0.1)],
)
def test_each_method_has_its_rate(method: str, rate: float, beta: float | None) -> None:
    """Full fine-tuning a tenth of LoRA's, DPO and KTO 1e-5 with beta 0.1; a parent's shape is not
    said to be the preset's."""
    given = {"adapter": "a", "data": "x.jsonl", "method": method, "continue_from": "a@1"}
    settings = settle(TrainConfig.load(None, given), base_name="q", base=QWEN, rows=400)
    assert (settings.learning_rate, settings.beta) == (pytest.approx(rate, rel=0.05), beta)
    assert "rank" not in settings.filled
    assert "learning_rate" in settings.filled
    assert ("beta" in settings.filled) == (beta is not None)


@pytest.mark.parametrize(
    ("family", "hidden", "rate"),
    [("llama", 4096, 2.9e-4), ("qwen3", 4096, 4.7e-4), ("qwen2", 896, 5.3e-4)],
)
def test_learning_rate_is_tinkers_rule(family: str, hidden: int, rate: float) -> None:
    """The rule gives Tinker's published rates for Llama-3.1-8B, Qwen3-8B and Qwen2.5-0.5B."""
    assert learning_rate(BaseFacts(8_000_000_000, hidden, family, None)) == pytest.approx(rate)


def test_settings_have_nothing_left_open() -> None:
    """The preset fills every gap, what was set stays, and JSON gives the same settings back."""
    config = TrainConfig.load(None, {"adapter": "a", "data": "x.jsonl", "rank": 4})
    settings = settle(config, base_name="starter", base=TINY, rows=400)
    assert (settings.preset, settings.rank, settings.alpha) == ("tiny", 4, 8)
    assert (settings.learning_rate, settings.max_length) == (5e-3, 1024)
    assert None not in {settings.epochs, settings.batch_size, settings.warmup_ratio}
    assert Settings.from_json(settings.to_json()) == settings


def test_a_config_may_be_a_pipe(registry: Registry) -> None:
    """It is read once: read again, a pipe is empty, and its settings would be gone quietly."""
    reader, writer = os.pipe()
    os.write(writer, b"dropout: 0.25\ndata: x.jsonl\n")
    os.close(writer)
    asked = _asked(registry, Path(f"/dev/fd/{reader}"), {"adapter": "a"})
    os.close(reader)
    assert (asked.dropout, asked.adapter) == (0.25, "a")


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4), (16, 8), (64, 16)])
def test_rslora_keeps_the_scale_of_the_preset(rank: int, alpha: int) -> None:
    """alpha / sqrt(rank) is two, as alpha / rank is without it: a larger one diverges."""
    given = {"adapter": "a", "data": "x.jsonl", "rank": rank, "rslora": True}
    settings = settle(TrainConfig.load(None, given), base_name="starter", base=TINY, rows=400)
    assert settings.alpha == alpha
    assert settings.alpha / rank**0.5 == 2
    set_by_hand = TrainConfig.load(None, {**given, "alpha": 5})
    assert settle(set_by_hand, base_name="starter", base=TINY, rows=400).alpha == 5


def test_a_length_that_the_base_cannot_read_is_refused() -> None:
    """`max_length` over the base's context is refused by name."""
    config = TrainConfig.load(None, {"adapter": "a", "data": "x.jsonl", "max_length": 4096})
    with pytest.raises(InvalidConfig, match="max_length: 4096"):
        settle(config, base_name="starter", base=TINY, rows=400)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_load_by_the_command_in_their_first_line(path: Path) -> None:
    """A recipe's first line is the command that runs it, and its settings and files are there."""
    command = path.read_text().splitlines()[0]
    assert command.startswith("# hub train ")
    given = train.make_context("train", shlex.split(command)[3:]).params
    assert given["config"] == Path("train/recipes", path.name)
    config = TrainConfig.load(path, {"adapter": given["name"], "base": given["base"]})
    root = path.parents[2]
    assert all((root / file).is_file() for file in (*config.data, *config.heldout))
