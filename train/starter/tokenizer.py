"""The starter's tokenizer: byte-level BPE learned from the corpus, cut so that copying is easy.

Digits come in pairs, so that a number is short without needing a token for each of a million. A
capital letter, with the space before it, is a token of its own: ` Gemma` in a sentence and `"Gemma`
in JSON then differ in their first token only, and the rest is the same tokens to copy.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from train.starter.corpus import Chat

PAD_TOKEN = "<|endoftext|>"
START_TOKEN = "<|im_start|>"
END_TOKEN = "<|im_end|>"

# `{% generation %}` marks what TRL's assistant_only_loss trains on; the end token is within it, or
# an adapter would never learn to stop.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}"
    "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def train_tokenizer(chats: Iterable[Chat], vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,2}| ?\p{Lu}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD_TOKEN, START_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (content for chat in chats for _, content in chat), trainer=trainer
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END_TOKEN, pad_token=PAD_TOKEN
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def spaced_pairs(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """The ids of every token that exists without and with a leading space, in order of id."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    space = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    found = (
        (vocabulary[token.removeprefix(space)], number)
        for token, number in vocabulary.items()
        if token.startswith(space) and token.removeprefix(space) in vocabulary
    )
    return sorted(found)
