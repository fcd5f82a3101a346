"""What a training will take, by arithmetic: parts, time, and advice. No GPU is needed for that."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidConfig
from hub.manifest import BaseIdentity
from hub.records import Base, Run
from tests.train.conftest import make_settings
from train.config import Settings
from train.linting.findings import TokenStatistics
from train.planning.estimate import Anatomy, estimate
from train.planning.preflight import Preflight, preflight
from train.planning.room import Room, container_room

GB = 10**9
LLAMA = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
}
MODULES = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096), "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096), "mlp.up_proj": (14336, 4096), "mlp.down_proj": (4096, 14336),
}  # fmt: skip
TOKENS = TokenStatistics(total=500_000, trained=200_000, longest=1000)


@pytest.fixture
def llama(tmp_path: Path) -> Base:
    """Llama 3.1 8B, by its shapes; no weight of it is here."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(32) for name, shape in MODULES.items()
    }  # fmt: skip
    shapes |= {"model.embed_tokens.weight": (128256, 4096), "lm_head.weight": (128256, 4096)}
    shapes |= {f"model.layers.{n}.input_layernorm.weight": (4096,) for n in range(65)}
    identity = BaseIdentity("llama", "r", "c", "t", "")
    return Base(1, "llama", str(tmp_path), identity, "d" * 64, shapes, "2026-01-01")


def settings(**changes: Any) -> Settings:
    made = make_settings(**{"rank": 16, "batch_size": 8, **changes})
    return replace(made, max_length=2048, base="llama")


def told(base: Base, room: Room, *runs: Run, **changes: Any) -> Preflight:
    return preflight(
        base, settings(**changes), rows=1000, tokens=TOKENS, room=room,
        bf16=room.device == "cuda", runs=runs,
    )  # fmt: skip


def test_the_parts_of_a_known_model(llama: Base) -> None:
    """Llama 3.1 8B: 8.03 billion parameters, 16.1 GB in bfloat16 and 5.7 GB with nf4; a rank of 16
    is 41.9 million more, with 16 bytes each; full fine-tuning takes 16 bytes for every weight."""
    anatomy = Anatomy.of(llama)
    assert anatomy.parameters == pytest.approx(8.03e9, rel=1e-3)
    plain = estimate(anatomy, settings(), longest=1000, bf16=True, gpu=True)
    assert plain.weights == pytest.approx(16.06 * GB, rel=1e-3)
    assert plain.adapter + plain.gradients + plain.optimizer == 16 * 41_943_040
    small = estimate(anatomy, settings(quantize="nf4"), longest=1000, bf16=True, gpu=True)
    linear = 32 * sum(map(prod, MODULES.values()))
    assert small.weights == pytest.approx(linear * 0.516 + (8.03e9 - linear) * 4, rel=1e-2)
    full = estimate(anatomy, settings(method="full"), longest=1000, bf16=True, gpu=True)
    assert full.weights + full.gradients + full.optimizer == 16 * anatomy.parameters
    pairs = estimate(anatomy, settings(method="dpo"), longest=1000, bf16=True, gpu=True)
    assert pairs.activations == 2 * plain.activations


def test_beside_a_live_engine_it_says_whether_both_fit(llama: Base) -> None:
    """An engine that holds nine tenths of 80 GB: refused, with the batch that would fit if any, and
    the share that the engine may take; with half of it both fit, and that is said too."""
    crowded = told(llama, Room("cuda", free=8 * GB, total=80 * GB, others=72 * GB))
    with pytest.raises(InvalidConfig) as refusal:
        crowded.require()
    words = "\n".join(refusal.value.problems)
    assert "8.0 GB are free on the GPU beside another program's 72.0 GB" in words
    assert "both don't fit" in "\n".join(crowded.lines())
    share = (80 * GB - crowded.memory.total) / (80 * GB)
    (said,) = [part for part in words.split("'") if part.startswith("--gpu-memory-utilization")]
    assert share - 0.05 < float(said.split()[1]) <= share
    roomy = told(llama, Room("cuda", free=40 * GB, total=80 * GB, others=40 * GB))
    roomy.require()
    assert "holds 40.0 GB of the GPU's 80.0 GB: both fit" in "\n".join(roomy.lines())


def test_the_advice_fits(llama: Base) -> None:
    """What is advised would really fit by the same estimate: a smaller batch first, then 4 bits;
    and where nothing does, it says so."""
    need = told(llama, Room("cuda", 10**15, 10**15)).memory.total
    tight = told(llama, Room("cuda", need - 2 * GB, 80 * GB))
    assert tight.ways()[0].startswith("batch_size: 4 and gradient_accumulation: 2 would take")
    smaller = told(llama, tight.room, batch_size=4, gradient_accumulation=2)
    assert smaller.fits
    assert smaller.steps == tight.steps
    assert told(llama, Room("cuda", 12 * GB, 80 * GB)).ways()[0].startswith("quantize: nf4 with")
    assert "no setting" in told(llama, Room("cpu", 2 * GB, 4 * GB)).ways()[0]
    assert "method: sft" in told(llama, Room("cuda", 40 * GB, 80 * GB), method="full").ways()[0]


def test_the_time_is_that_of_an_earlier_run_like_it(llama: Base) -> None:
    """Tokens by what the newest run on this base made in a second; of another method none."""
    run = Run(
        id="r", adapter="a", method="sft", status="finished", base="llama", dataset_digest="",
        config={"quantize": None}, pid=1, started_at="", finished_at="", error=None,
        lineage={"metrics": {"tokens": 1000, "seconds": 2.0}},
    )  # fmt: skip
    room = Room("cuda", 10**15, 10**15)
    timed = told(llama, room, replace(run, id="x", status="failed"), run)
    assert timed.tokens == 2 * 450_000
    assert (timed.seconds, timed.timed_by) == (timed.tokens / 500, "the run r")
    assert told(llama, room, run, method="full").seconds is None


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    """The tightest of the control groups above this process, less what only caches files."""
    own = tmp_path / "cgroup"
    own.write_text("0::/outer/inner\n")
    for name, most in (("outer", "5000"), ("outer/inner", "max")):
        folder = tmp_path / "fs" / name
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("3000\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert container_room(tmp_path / "fs", own) == (2500, 5000)
    assert container_room(tmp_path / "fs", tmp_path / "none") is None
