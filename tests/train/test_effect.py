"""The effect check tells an adapter that does something from one that does nothing or harm."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub.errors import TrainingError
from train.reporting import effect
from train.reporting.effect import THRESHOLD, EffectMeter, EffectReport

WEIGHTS = "adapter_model.safetensors"


def measure_effect(base: str, adapter: Path, prompts: list[str] | None = None) -> EffectReport:
    return EffectMeter().measure(base, adapter, prompts)


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path) -> Path:
    """A fresh adapter as peft makes it, with B set to small random numbers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    return folder


def scaled(adapter: Path, factor: float) -> Path:
    """A copy whose B matrices are multiplied by a factor."""
    folder = adapter.with_name("scaled")
    shutil.copytree(adapter, folder)
    tensors = load_file(folder / WEIGHTS)
    changed = {
        name: tensor * factor if "lora_B" in name else tensor for name, tensor in tensors.items()
    }
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def test_an_adapter_that_acts_changes_something(model_folder: Path, adapter: Path) -> None:
    """Its changes are far over the threshold, on prompts of its own and on given ones."""
    assert measure_effect(str(model_folder), adapter).max_change > 3 * THRESHOLD
    asked = measure_effect(str(model_folder), adapter, ["The red car?"])
    assert asked.changes
    assert asked.prompts == 1


def test_zero_b_changes_nothing(model_folder: Path, adapter: Path) -> None:
    """With B at zero the difference is exactly zero, and the verdict is no."""
    effect = measure_effect(str(model_folder), scaled(adapter, 0.0))
    assert effect.max_change == 0.0
    assert not effect.changes
    assert effect.to_json()["changes"] is False


def test_wrong_names_change_nothing(model_folder: Path, adapter: Path) -> None:
    """Tensors that fit no module are loaded without complaint, and found here."""
    folder = scaled(adapter, 1.0)
    tensors = load_file(folder / WEIGHTS)
    wrong = {name.replace("layers.", "lairs."): tensor for name, tensor in tensors.items()}
    save_file(wrong, folder / WEIGHTS, metadata={"format": "pt"})
    assert not measure_effect(str(model_folder), folder).changes


def with_config(adapter: Path, **changes: object) -> Path:
    folder = scaled(adapter, 1.0)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "(.+)+(.+)+(.+)+!"},
        {"target_modules": ["q_proj"]},
        {"target_modules": ".*q_proj", "exclude_modules": "(.+)+(.+)+(.+)+!"},
        {"layers_to_transform": [0], "layers_pattern": "(.+)+(.+)+(.+)+!"},
        {"megatron_config": {"a": 1}},
        {"init_lora_weights": "sorcery"},
        {"loftq_config": 5, "eva_config": 5, "target_parameters": 5, "runtime_config": 5},
    ],
    ids=str,
)
def test_the_tensors_are_measured_and_nothing_else_of_the_file(
    model_folder: Path, adapter: Path, changes: dict[str, object]
) -> None:
    """Whatever the config targets, what is measured is what an engine serves: all tensors of the
    file. No pattern of the config is run, and no other setting reaches PEFT."""
    whole = measure_effect(str(model_folder), adapter)
    assert measure_effect(str(model_folder), with_config(adapter, **changes)) == whole


def test_whatever_peft_raises_is_a_fault_of_the_adapter(
    model_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback, whichever error it is."""

    def fails(*_: object, **__: object) -> None:
        raise AttributeError("deep inside")

    monkeypatch.setattr("peft.PeftModel.from_pretrained", fails)
    with pytest.raises(TrainingError, match="can't be loaded: deep inside"):
        measure_effect(str(model_folder), adapter)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(
    model_folder: Path, adapter: Path, factor: float
) -> None:
    """One such adapter would empty the answers of a whole engine."""
    with pytest.raises(TrainingError, match="not finite"):
        measure_effect(str(model_folder), scaled(adapter, factor))


def test_what_is_no_adapter_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """An empty folder, and shapes that fit another base, are errors with the folder's name."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    with pytest.raises(TrainingError, match="can't be loaded") as refusal:
        measure_effect(str(model_folder), tmp_path)
    assert refusal.value.where == str(tmp_path)


def test_one_base_is_loaded_once_and_stays_as_it_was(
    model_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters one after the other, a broken one among them, measure as each does alone."""
    loads: list[str] = []

    def counted(source: str) -> object:
        loads.append(source)
        return load_base(source)

    load_base = effect.load_base
    source, other = str(model_folder), scaled(adapter, 0.5)
    alone = [measure_effect(source, folder) for folder in (adapter, other)]
    monkeypatch.setattr(effect, "load_base", counted)
    meter = EffectMeter()
    for _ in range(2):
        assert [meter.measure(source, folder) for folder in (adapter, other)] == alone
    assert loads == [source]
    (other / "adapter_config.json").write_text("{}")
    with pytest.raises(TrainingError):
        meter.measure(source, other)
    assert meter.measure(source, adapter) == alone[0]
    assert loads == [source, source]
