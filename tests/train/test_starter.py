"""The starter base: its copy heads, and builds small enough for a test."""

from pathlib import Path

import pytest
import torch

from hub.errors import BaseError, InvalidConfig
from train.starter.build import StarterConfig, build_starter
from train.starter.model import new_model

TINY = StarterConfig(
    vocabulary=600,
    documents=300,
    validation_documents=20,
    tokenizer_documents=300,
    batch_size=4,
    steps=3,
)
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "suggestions.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


class Stopped(Exception):
    """What a progress callback raises in these tests."""


def induction_accuracy(model: torch.nn.Module, vocabulary: int) -> float:
    """Of the tokens that repeat a random sequence seen before, the share guessed right.

    Each row is twelve random tokens, three others, and the twelve again. The present token is left
    out of the guesses: with tied embeddings an untrained model always ranks it first.
    """
    generator = torch.Generator().manual_seed(3)
    told = torch.stack(
        [torch.randperm(vocabulary - 3, generator=generator)[:12] + 3 for _ in range(32)]
    )
    between = torch.randint(3, vocabulary, (32, 3), generator=generator)
    ids = torch.cat([told, between, told], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, 15:-1]
    logits = logits.scatter(-1, ids[:, 15:-1, None], -1e9)
    return (logits.argmax(-1) == ids[:, 16:]).float().mean().item()


def test_copy_heads_copy_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model continues a repeated random sequence, and without the heads it cannot."""

    def fresh() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return new_model(
                vocabulary=2048,
                end_token=2,
                pad_token=0,
                hidden=192,
                layers=3,
                heads=3,
                head_size=64,
                feed_forward=512,
                context=1024,
            )

    assert induction_accuracy(fresh(), 2048) > 0.8
    monkeypatch.setattr("train.starter.model.set_copy_heads", lambda model: None)
    assert induction_accuracy(fresh(), 2048) < 0.05


def test_two_builds_with_one_seed_are_the_same_bytes(tmp_path: Path) -> None:
    """Seed and configuration decide every byte of every file, and torch's state is left alone."""
    threads = torch.get_num_threads()
    state = torch.random.get_rng_state()
    reported: list[tuple[int, int, float]] = []
    report = build_starter(
        tmp_path / "one", seed=5, config=TINY, progress=lambda *step: reported.append(step)
    )
    build_starter(tmp_path / "two", seed=5, config=TINY)
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert reported[-1][:2] == (3, 3)
    assert report.steps == 3
    assert report.parameters > 1_000_000
    assert report.validation_loss > 0
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """When progress raises, the exception passes through and no file or folder remains."""

    def stop(step: int, total: int, loss: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        build_starter(tmp_path / "base", config=TINY, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """An existing file is never overwritten: the build is refused before it starts."""
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(BaseError, match="not empty"):
        build_starter(tmp_path, config=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_what_cannot_be_built_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed that is no seed and a folder that can't be written cost no minute of training."""
    monkeypatch.setattr("train.starter.build.corpus", lambda count, seed: pytest.fail("it began"))
    for seed in (-1, 2**32):
        with pytest.raises(InvalidConfig, match=f"seed: {seed}"):
            build_starter(tmp_path / "base", seed=seed, config=TINY)
    (tmp_path / "file").write_text("")
    with pytest.raises(BaseError, match="cannot be written"):
        build_starter(tmp_path / "file" / "base", config=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
