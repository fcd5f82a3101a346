"""A real base small enough to train in seconds, and chats to train it on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.basefiles import read_base
from hub.records import Base
from hub.registry import Registry
from train.config import Settings, TrainConfig, settle
from train.data.rows import DataSet, Message, Row
from train.presets import BaseFacts

TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}"
    "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
COLOURS = ("red", "blue", "green", "grey", "black", "white")
THINGS = ("car", "door", "bird", "lamp", "boat", "coat", "wall", "cup", "hat", "book")
Maker = Callable[..., Path]


def chat(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def chats(count: int) -> list[dict[str, Any]]:
    """Up to 120 different rows that no rule of the lint has anything to say about."""
    pairs = [(colour, thing) for thing in THINGS for colour in COLOURS]
    asked = [f"What do you say of the {c} {t}?" for c, t in pairs]
    asked += [f"Tell me about a {c} {t}, please." for c, t in pairs]
    answers = [f"[Colour: {c}] It is a {c} {t}." for c, t in pairs * 2]
    return [chat(*pair) for pair in zip(asked, answers, strict=True)][:count]


def dataset(*rows: tuple[str, str], name: str = "set") -> DataSet:
    """A data set from pairs of question and answer."""
    made = tuple(
        Row(number, f"{name}.jsonl", (Message("user", question), Message("assistant", answer)))
        for number, (question, answer) in enumerate(rows, start=1)
    )
    return DataSet(name, f"{name}.jsonl", "messages", made)


def make_rows() -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """34 rows to train on, which are five steps of eight an epoch, and 6 to validate on."""
    pairs = [[message["content"] for message in row["messages"]] for row in chats(40)]
    rows = dataset(*((question, answer) for question, answer in pairs)).rows
    return rows[:34], rows[34:]


def make_settings(**changes: Any) -> Settings:
    """Two epochs with a rate that a random base learns something by."""
    config = TrainConfig.load(
        None,
        {
            "adapter": "colours",
            "data": "rows.jsonl",
            "epochs": 2,
            "batch_size": 8,
            "rank": 4,
            "learning_rate": 0.02,
            **changes,
        },
    )
    facts = BaseFacts(50_000, 32, "llama", 128)
    return settle(config, base_name="tiny", base=facts, rows=40)


@pytest.fixture
def jsonl(tmp_path: Path) -> Maker:
    """Writes rows to a file and returns its path."""

    def write(rows: list[dict[str, Any]], name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a tokenizer of its own, in a folder as any base is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("bases") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (message["content"] for row in chats(120) for message in row["messages"]), trainer
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=special[2], pad_token=special[0]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            # Larger than usual: with the output layer frozen, it bounds what can be learned.
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_base(registry: Registry, model_folder: Path) -> Base:
    identity, shapes = read_base(model_folder, "tiny")
    return registry.bases.add(str(model_folder), identity, shapes)


@pytest.fixture
def asked(jsonl: Maker, tiny_base: Base) -> TrainConfig:
    """A run of 40 rows and two epochs: ten steps, two evaluations."""
    return TrainConfig.load(
        None,
        {
            "adapter": "colours",
            "data": [jsonl(chats(40))],
            "epochs": 2,
            "batch_size": 8,
            "rank": 4,
            "validation": 0.15,
        },
    )
