"""The chat templates of families of bases, on tiny tokenizers with the family's special tokens.

The templates are those that TRL ships, unchanged, or, where it ships none, our own with the text of
the family. `python -m tests.train.families` writes the golden masks anew; read the diff.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.train.conftest import chats
from train.data.rows import Message, Row
from train.templates.masks import mask_of
from train.templates.tokens import ChatTokenizer

GOLDEN = Path(__file__).parent / "golden"
# Where TRL is silent: the text of Mistral 7B Instruct v0.3, and ChatML as its inventor wrote it.
MISTRAL = """
{{- bos_token }}
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and message == users[-1] %}
            {{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.tool_calls %}
        {%- set call = message.tool_calls[0] %}
        {{- '[TOOL_CALLS] [' + (call.function | tojson)[:-1] }}
        {{- ', "id": "' + call.id + '"}]' + eos_token }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content }}
        {{- ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('there is no role ' + message.role) }}
    {%- endif %}
{%- endfor %}
"""
CHATML = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """`template` is a file of TRL's, or the text itself. `words` cuts as sentencepiece does, which
    keeps a word's space with it; else bytes are merged. `has` names what the family knows.
    """

    title: str
    template: str
    special: Sequence[str]
    bos: str | None = None
    eos: str = "<|im_end|>"
    has: Sequence[str] = ()
    words: bool = False

    @property
    def source(self) -> str:
        return self.template if "{" in self.template else trl_template(self.template)


HEADERS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHATML_MARKS = ["<|im_start|>", "<|im_end|>"]
LLAMA: dict[str, Any] = {"special": HEADERS, "bos": HEADERS[0], "eos": HEADERS[3]}
FAMILIES = {
    "llama-3": Family("Llama 3", "llama3", **LLAMA, has=("system",)),
    "llama-3.1": Family("Llama 3.1", "llama3_1", **LLAMA, has=("system", "tools")),
    "qwen-2.5": Family("Qwen 2.5", "qwen2_5", CHATML_MARKS, has=("system", "tools")),
    "qwen-3": Family("Qwen 3", "qwen3", CHATML_MARKS, has=("system", "tools", "thoughts")),
    "qwen-3.5": Family("Qwen 3.5 that does not think", "qwen3_5_nothink", CHATML_MARKS,
                       has=("system", "tools")),
    "mistral": Family("Mistral", MISTRAL,
                      ["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]",
                       "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
                      "<s>", "</s>", has=("tools",), words=True),
    "gemma": Family("Gemma 3", "gemma3", ["<start_of_turn>", "<end_of_turn>"],
                    "<bos>", "<eos>", has=("system",), words=True),
    "phi": Family("Phi 3", "phi3", ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
                  "<s>", "<|endoftext|>", has=("system",), words=True),
    "chatml": Family("ChatML", CHATML, CHATML_MARKS, has=("system",)),
}  # fmt: skip

_USER, _ANSWER = Message("user", "The red car?"), Message("assistant", "It is red.")
_MORE, _LAST = Message("user", "And the blue door?"), Message("assistant", "It is blue.")
_THOUGHTS = "<think>\nA door.\n</think>\n\n"
_CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "car"}'},
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at it",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
_SYSTEM = Message("system", "Be brief.")
_ASKS = (_USER, Message("assistant", "", tool_calls=(_CALL,)))
_TOLD = Message("tool", "red", name="look", tool_call_id="call00001")


def family_rows(family: Family) -> dict[str, Row]:
    """Rows to look at, by what they show; only what the family has."""
    chats = {
        "one turn": (_USER, _ANSWER),
        "two turns": (_USER, _ANSWER, _MORE, _LAST),
        "the first answer has weight 0": (_USER, replace(_ANSWER, weight=0), _MORE, _LAST),
    }
    if "system" in family.has:
        chats["with a system message"] = (_SYSTEM, _USER, _ANSWER)
    if "thoughts" in family.has:
        thought = [replace(one, content=_THOUGHTS + one.content) for one in (_ANSWER, _LAST)]
        chats["two turns with thoughts"] = (_USER, thought[0], _MORE, thought[1])
    tools = {}
    if "tools" in family.has:
        tools["a call of a tool"] = (*_ASKS, _TOLD, _ANSWER)
        tools["a call of a tool, then more"] = (*_ASKS, _TOLD, _ANSWER, _MORE, _LAST)
    return {
        **{name: Row(1, "a.jsonl", messages) for name, messages in chats.items()},
        **{name: Row(1, "a.jsonl", messages, (_TOOL,)) for name, messages in tools.items()},
    }


def chat_of(family: Family) -> ChatTokenizer:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(words=family.words),
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token="<pad>",
        additional_special_tokens=list(family.special),
    )
    fast.chat_template = family.source
    return ChatTokenizer.of(fast, family.title)


def trl_template(name: str) -> str:
    from trl import chat_template_utils

    folder = Path(chat_template_utils.__file__).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_text()


def golden(family: Family, chat: ChatTokenizer) -> str:
    """Every row of the family as text, with what is trained on in brackets."""
    parts = [f"{family.title}: what is trained on stands in ⟦ ⟧\n"]
    for name, row in family_rows(family).items():
        text = bracketed(mask_of(chat, row).stretches())
        parts.append(f"\n======== {name}\n{text}\n")
    return "".join(parts)


def bracketed(stretches: Any) -> str:
    return "".join(f"⟦{text}⟧" if trained else text for text, trained in stretches)


@cache
def _trained(words: bool) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>") if words else models.BPE())
    if words:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
        alphabet = [chr(code) for code in range(33, 127)] + ["\n", "▁"]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>"] if words else [],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    said = [message["content"] for row in chats(120) for message in row["messages"]]
    tokenizer.train_from_iterator([*said, "\n\n", "<think>\n\n</think>\n\n"], trainer)
    return str(tokenizer.to_str())


def _tokenizer(*, words: bool) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_trained(words))


if __name__ == "__main__":
    for name, family in FAMILIES.items():
        (GOLDEN / f"{name}.txt").write_text(golden(family, chat_of(family)), encoding="utf-8")
