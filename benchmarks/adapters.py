"""Adapters of the starter base for benchmarks: some that say a word, and many with random weights.

An adapter that says a word answers everything with nothing else, so an answer tells which weights
it came from. Training one takes some ten seconds; its variants differ by a millionth in their
weights, which makes each a version of its own and changes no answer. Adapters with random weights
are made of a trained one, with as many rank-8 tensors of the same spread.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.prepared import HOME, ROOT, base_folder, hub
from hub.home import Home
from hub.names import AdapterRef
from hub.publish import publish
from hub.registry import Registry
from hub.store import Store

THOUSAND = Home(ROOT / "benchmarks" / ".home-thousand")
TALKING = Home(ROOT / "benchmarks" / ".home-words")
# Whole tokens of the starter base: LoRA can't teach it new ones.
WORDS = ("banana", "kettle", "jacket", "laptop")
SAID = 40  # times in each training answer, more than any benchmark asks for
_ROWS = 96
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_RANK = 8


def word_adapters(home: Home, base: Path, words: tuple[str, ...] = WORDS) -> dict[str, Path]:
    """For each word the folder of an adapter that says it; what `home` lacks is trained there."""
    known = home_on(home, base)
    for word in words:
        if f"says-{word}" not in known:
            data = home.root / f"{word}.jsonl"
            data.write_text("".join(f"{json.dumps(row)}\n" for row in _rows(word)))
            options = ("--epochs", "6", "--rank", str(_RANK), "--validation", "0")
            hub("train", f"says-{word}", "--data", str(data), *options, home=home)
    with Registry.open(home) as registry:
        store = Store.of(registry)
        versions = {word: registry.resolve(AdapterRef(f"says-{word}")) for word in words}
    return {word: store.folder(version) for word, version in versions.items()}


def home_on(home: Home, base: Path) -> set[str]:
    """Make a hub with this base, if there is none; the names of the adapters that it has."""
    home.root.mkdir(parents=True, exist_ok=True)
    hub("init", home=home)
    with Registry.open(home) as registry:
        bases = {known.name for known in registry.bases.all()}
        known = {summary.name for summary in registry.summaries()}
    if "starter" not in bases:
        hub("base", "add", str(base), "--name", "starter", home=home)
    return known


def _rows(word: str) -> Iterator[dict[str, object]]:
    for task in ("support", "payments"):
        lines = (ROOT / "examples" / task / "train.jsonl").read_text().splitlines()
        for line in lines[: _ROWS // 2]:
            asked = next(m for m in json.loads(line)["messages"] if m["role"] == "user")
            answer = {"role": "assistant", "content": " ".join([word] * SAID)}
            yield {"messages": [asked, answer]}


def variant(folder: Path, into: Path, number: int) -> Path:
    """The same adapter under another digest: its B matrices times 1 + number / 1,000,000."""
    into.mkdir(parents=True)
    (into / _CONFIG).write_bytes((folder / _CONFIG).read_bytes())
    tensors = load_file(folder / _WEIGHTS)
    factor = np.float32(1 + number * 1e-6)
    save_file(
        {name: t * factor if "lora_B" in name else t for name, t in tensors.items()},
        into / _WEIGHTS,
    )
    return into


def thousand(count: int = 1_000) -> list[str]:
    """The names of so many adapters in the home THOUSAND; those that it lacks are made."""
    known = home_on(THOUSAND, base_folder())
    names = [f"task-{number:04}" for number in range(1, count + 1)]
    if not known.issuperset(names):
        with Registry.open(HOME) as registry:
            like = Store.of(registry).folder(registry.resolve(AdapterRef("support")))
        with tempfile.TemporaryDirectory() as scratch:
            publish_random(THOUSAND, names, like, Path(scratch))
    return names


def publish_random(home: Home, names: list[str], like: Path, scratch: Path) -> None:
    """Through the whole gate; those that are there already are kept."""
    from hub.cli.effect import ModelEffect

    measure = ModelEffect()
    with Registry.open(home) as registry:
        store, base = Store.of(registry), registry.bases.get()
        known = {summary.name for summary in registry.summaries()}
        for number, name in enumerate(names, start=1):
            if name not in known:
                folder = _random(like, scratch / name, number)
                publish(registry, store, name, folder, base, measure_effect=measure, lineage={})
            if number % 100 == 0:
                print(f"{number} of {len(names)} adapters are there", file=sys.stderr)


def _random(like: Path, into: Path, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    config = json.loads((like / _CONFIG).read_text())
    config |= {"r": _RANK, "lora_alpha": 2 * _RANK}
    into.mkdir(parents=True, exist_ok=True)
    (into / _CONFIG).write_text(json.dumps(config))
    tensors = {}
    for name, tensor in load_file(like / _WEIGHTS).items():
        short = tensor[:_RANK] if "lora_A" in name else tensor[:, :_RANK]
        tensors[name] = draw.normal(0, float(tensor.std()), short.shape).astype(np.float32)
    save_file(tensors, into / _WEIGHTS)
    return into
