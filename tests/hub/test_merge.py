"""Merging: one folder that says what base and adapter say, or nothing at all."""

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    set_seed,
)

import hub.merge
from hub.basefiles import read_base
from hub.errors import BaseError, Conflict, MergeError
from hub.facts import BaseFacts, FileFacts, VersionFacts
from hub.home import Home
from hub.merge import Merged, merge
from hub.publish import publish
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts

# peft advises on tied embeddings, which is what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PROMPTS = ("Hello!", "What is this?", "Tell me more, please.")
TWENTY = tuple(f"Question {number}: what now?" for number in range(20))
TEMPLATE = (
    "{%- for message in messages %}{{- '<s>' + message.role + ': ' + message.content + '</s>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<s>assistant: ' }}{%- endif %}"
)
SIZES = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 257,
    "initializer_range": 0.2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),
}
VERSION = VersionFacts(
    version="support@3",
    adapter="support",
    number=3,
    digest="d" * 64,
    base=BaseFacts("tiny", "sha256:r", "b" * 64, "c" * 64, "t" * 64, ""),
    rank=8,
    size=9,
    files=(FileFacts("adapter_model.safetensors", "f" * 64, 9),),
    aliases=(),
    published_by="ann",
    published_at="2026-01-01T00:00:00.000Z",
    lineage={},
    evaluations=(),
    signatures=(),
)
Pair = tuple[Path, Path]
MakePair = Callable[..., Pair]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small take longer to divide among threads than to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_tokenizer(folder: Path) -> None:
    """One token a byte, and the two ends of a turn."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, "<s>", "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


@pytest.fixture
def pair(tmp_path: Path) -> MakePair:
    """A random base and an adapter of it with an effect of some nats; both folders."""

    def make(kind: str = "llama", *, strength: float = 0.1, dtype: Any = torch.float32,
             **lora: Any) -> Pair:  # fmt: skip
        base, adapter = tmp_path / "tiny", tmp_path / "adapter"
        set_seed(0)
        model: Any = AutoModelForCausalLM.from_config(CONFIGS[kind]).to(dtype)
        model.save_pretrained(base)
        write_tokenizer(base)
        wanted = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", **lora}
        tuned = get_peft_model(model.float(), LoraConfig(task_type="CAUSAL_LM", **wanted))
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=strength)
        tuned.peft_config["default"].base_model_name_or_path = "tiny"
        tuned.save_pretrained(adapter, save_embedding_layers=False)
        return base, adapter

    return make


def unmerged(base: Path, adapter: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def merged_by_hub(pair: Pair, out: Path, **options: Any) -> Merged:
    base, adapter = pair
    return merge(VERSION, adapter, base, out, prompts=PROMPTS, **options)


@torch.no_grad()
def log_probabilities(model: Any, base: Path, prompt: str) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(base)(prompt, return_tensors="pt")["input_ids"]
    return torch.log_softmax(model(input_ids=ids).logits.float(), dim=-1)


def difference(pair: Pair, out: Path) -> float:
    """The largest, over all tokens, with prompts that the merge did not see."""
    one = unmerged(*pair)
    other: Any = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    found = [log_probabilities(m, pair[0], p) for p in TWENTY for m in (one, other)]
    return max(float((a - b).abs().max()) for a, b in zip(found[::2], found[1::2], strict=True))


def answers(model: Any, folder: Path) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in TWENTY:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        made = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
        texts.append(tokenizer.decode(made[0]))
    return texts


def nothing_left(out: Path) -> bool:
    return not [path for path in out.parent.iterdir() if out.name in path.name]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_folder_answers_as_base_and_adapter_do(
    pair: MakePair, tmp_path: Path, kind: str
) -> None:
    """Plain transformers loads it, without peft; 20 greedy answers are the same to the letter, and
    no log-probability of any token is further off than float32 rounds."""
    made, out = pair(kind), tmp_path / "out"
    report = merged_by_hub(made, out)
    assert difference(made, out) < 5e-4
    plain: Any = AutoModelForCausalLM.from_pretrained(out)
    texts = answers(plain, out)
    assert texts == answers(unmerged(*made), made[0])
    assert texts != answers(AutoModelForCausalLM.from_pretrained(made[0]), made[0])
    assert report.effect > 0.1
    assert report.largest < 1e-3
    assert report.agreement == 1
    assert (report.dtype, report.untied) == ("float32", False)
    assert report.size == (out / "model.safetensors").stat().st_size


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 1.5), ("float16", 0.2)])
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_base_in_half_precision_keeps_its_dtype(
    pair: MakePair, tmp_path: Path, kind: str, dtype: str, bound: float
) -> None:
    """By default the folder is what the base is; merged in float32 and rounded once, so that every
    weight is the nearest to base + update that the dtype has."""
    made, out = pair(kind, dtype=getattr(torch, dtype)), tmp_path / "out"
    report = merged_by_hub(made, out)
    plain: Any = AutoModelForCausalLM.from_pretrained(out)
    assert plain.dtype == getattr(torch, dtype)
    assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    exact = unmerged(*made).merge_and_unload().state_dict()
    for name, weight in load_file(out / "model.safetensors").items():
        assert torch.equal(weight, exact[name].to(weight.dtype)), name
    assert 0 < report.largest <= report.allowed <= bound


def test_rslora_is_scaled_by_the_root_of_its_rank(pair: MakePair, tmp_path: Path) -> None:
    """The weight on disk is the base's + alpha / sqrt(r) · B·A."""
    base, adapter = made = pair(r=16, lora_alpha=8, use_rslora=True)
    merged_by_hub(made, tmp_path / "out")
    before, after = (load_file(f / "model.safetensors") for f in (base, tmp_path / "out"))
    tensors = load_file(adapter / "adapter_model.safetensors")
    module = "model.layers.1.mlp.down_proj"
    a, b = (tensors[f"base_model.model.{module}.lora_{half}.weight"] for half in "AB")
    expected = before[f"{module}.weight"] + 8 / 16**0.5 * b @ a
    assert torch.allclose(after[f"{module}.weight"], expected, atol=1e-6)
    assert difference(made, tmp_path / "out") < 5e-4


@pytest.mark.parametrize(
    ("modules", "untied"),
    [
        (["embed_tokens", "q_proj"], True),
        (["lm_head", "q_proj"], True),
        (["embed_tokens", "lm_head"], True),
        (["q_proj"], False),
    ],
)
def test_tied_embeddings_stay_right(
    pair: MakePair, tmp_path: Path, modules: list[str], untied: bool
) -> None:
    """An adapter of one use of the shared weight changes that use only: the folder holds both
    apart, and says so in its config. An adapter of neither leaves them shared."""
    made, out = pair("qwen3", target_modules=modules), tmp_path / "out"
    report = merged_by_hub(made, out)
    assert difference(made, out) < 5e-4
    assert report.untied is untied
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is not untied
    assert ("lm_head.weight" in load_file(out / "model.safetensors")) is untied


def test_a_wrong_merge_is_refused_and_leaves_nothing(
    pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without untying, peft's own merge changes both uses of the weight: the comparison sees it."""
    made, out = pair("qwen3", target_modules=["embed_tokens"]), tmp_path / "out"
    monkeypatch.setattr(hub.merge, "_untie", lambda model: False)
    with pytest.raises(MergeError, match="merged in float32, the log-probabilities are up to"):
        merged_by_hub(made, out)
    assert nothing_left(out)


def test_what_rounding_would_drown_is_refused(pair: MakePair, tmp_path: Path) -> None:
    """An update so small that bfloat16 loses more than half of what it does: float32 is named,
    and takes it."""
    made, out = pair(strength=0.005), tmp_path / "out"
    with pytest.raises(MergeError, match="merged in bfloat16") as refused:
        merged_by_hub(made, out, dtype="bfloat16")
    assert "--dtype float32" in (refused.value.hint or "")
    assert nothing_left(out)
    assert merged_by_hub(made, out).effect < 0.1


def test_what_lies_beside_the_weights_is_the_bases(pair: MakePair, tmp_path: Path) -> None:
    """Tokenizer, template and generation config byte for byte; shards with their index; a card
    that names all that it was made of; and `hub base add` would take it."""
    base, adapter = made = pair()
    (base / "generation_config.json").write_text('{"temperature": 0.3, "do_sample": true}')
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tools.jinja").write_text(TEMPLATE)
    out = tmp_path / "out"
    merged_by_hub(made, out, max_shard_size="100KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json",
                 "chat_template.jinja", "additional_chat_templates/tools.jinja"):  # fmt: skip
        assert (out / name).read_bytes() == (base / name).read_bytes(), name
    index = json.loads((out / "model.safetensors.index.json").read_text())
    shards = {path.name for path in out.glob("*.safetensors")}
    assert len(shards) > 2
    assert set(index["weight_map"].values()) == shards
    modes = {path.stat().st_mode for path in out.iterdir() if path.is_file()}
    assert modes == {(out / "config.json").stat().st_mode}
    (before, shapes), (after, merged_shapes) = (read_base(f, "tiny") for f in (base, out))
    assert merged_shapes == shapes
    assert after.tokenizer_sha256 == before.tokenizer_sha256
    assert after.template_sha256 == before.template_sha256
    assert after.revision != before.revision
    card = (out / "README.md").read_text()
    assert 'base_model: "tiny"' in card
    for fact in ("support@3", "d" * 64, "sha256:r", "b" * 64, "f" * 64):
        assert fact in card
    assert adapter.is_dir()


@pytest.mark.parametrize("step", ["merging", "writing float32", "loading it again, to compare"])
def test_ctrl_c_leaves_nothing(pair: MakePair, tmp_path: Path, step: str) -> None:
    """At whichever step it comes."""
    reached = []

    def interrupt(now: str) -> None:
        reached.append(now)
        if now == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merged_by_hub(pair(), tmp_path / "out", progress=interrupt)
    assert reached[-1] == step
    assert nothing_left(tmp_path / "out")


@pytest.fixture
def small_files() -> Iterator[None]:
    """Writing more than 100 kB to a file fails, as it does on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_error_and_leaves_nothing(
    pair: MakePair, tmp_path: Path, small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out in the middle of the weights, or before anything is written."""
    made, out = pair(), tmp_path / "out"
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    with pytest.raises(MergeError, match="can't be written"):
        merged_by_hub(made, out)
    assert nothing_left(out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    usage = hub.merge.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(hub.merge.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MergeError, match=r"0\.0 GB are free"):
        merged_by_hub(made, out)
    assert nothing_left(out)


def test_what_is_there_is_not_touched(pair: MakePair, tmp_path: Path) -> None:
    """A folder, a file or a dangling link of that name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    made = pair()
    for name in ("folder", "file", "link"):
        with pytest.raises(Conflict):
            merged_by_hub(made, tmp_path / name)
    assert list((tmp_path / "folder").iterdir()) == []


def test_bases_that_nothing_can_be_added_to_are_refused(pair: MakePair, tmp_path: Path) -> None:
    """Stored quantised, or not a model at all."""
    base, _ = made = pair()
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    for dtype in (None, "float32"):
        with pytest.raises(BaseError, match="stored quantised"):
            merged_by_hub(made, tmp_path / "out", dtype=dtype)
    (base / "config.json").write_text("{}")
    with pytest.raises(BaseError):
        merged_by_hub(made, tmp_path / "out")
    assert nothing_left(tmp_path / "out")


def test_hub_merge_from_the_registry_to_a_base(
    pair: MakePair, tmp_path: Path, home: Home, registry: Registry, store: Store
) -> None:
    """`hub merge` writes the folder and prints what was compared; `hub base add` takes it; a base
    whose files have changed since it was added is refused."""
    folder, adapter = pair("qwen3")
    identity, shapes = read_base(folder, "tiny")
    base = registry.bases.add(str(folder), identity, shapes)
    publish(registry, store, "support", adapter, base, measure_effect=acts, lineage={})
    run = Hub(home.root)
    told = run.ok("merge", "support", "--out", "../merged", "--dtype", "float16", "--json")
    report = told.json()
    merged = tmp_path / "merged"
    assert report["folder"] == str(merged)
    assert (report["version"], report["dtype"]) == ("support@1", "float16")
    assert report["digest"] == registry.versions.get("support", 1).digest
    assert report["largest"] <= report["allowed"] <= 0.2
    plain: Any = AutoModelForCausalLM.from_pretrained(merged)
    assert plain.dtype == torch.float16
    run.ok("base", "add", merged, "--name", "tuned")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter", "home", "merged", "tiny"
    ]  # fmt: skip
    again = run("merge", "support", "--out", merged)
    assert (again.status, "it is there already" in again.stderr) == (1, True)
    assert run("merge", "support", "--out", "no/such/folder").status == 2
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    changed = run("merge", "support", "--out", "../other")
    assert (changed.status, "its chat template changed" in changed.stderr) == (1, True)
    assert not (tmp_path / "other").exists()
