"""What a model answers to rows' prompts: greedy, short, in batches: only the adapter differs.

For what is measured after a training. Accuracy is measured through the server (`hub eval`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from train.data.rows import Row
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer

_BATCH = 32
# So that a batch of long prompts takes no more memory than the training did. A token has a
# character or more; the few scripts where it has less make a batch some times as large.
_BATCH_CHARACTERS = 32_768


def answers(model: Any, chat: ChatTokenizer, rows: Sequence[Row], most_tokens: int) -> list[str]:
    """An answer of at most `most_tokens` new tokens to each row's prompt, stripped, in their order.

    Prompts of like lengths go together. None is cut: where the base's context has less room after
    the longest prompt of a batch, that batch's answers are as much shorter.
    """
    texts = [chat.prompt_text(row.prompt, row.tools) for row in rows]
    order = sorted(range(len(rows)), key=lambda at: len(texts[at]))
    given = [""] * len(rows)
    with quiet(), torch.no_grad():
        for places in _batches(order, texts):
            batch = _batch(model, chat, [texts[at] for at in places], most_tokens)
            for at, text in zip(places, batch, strict=True):
                given[at] = text
    return given


def _batches(order: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """The places in their order, so many at once as the longest, which is the last, allows."""
    batch: list[int] = []
    for at in order:
        if batch and (
            len(batch) == _BATCH or len(texts[at]) * (len(batch) + 1) > _BATCH_CHARACTERS
        ):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _batch(model: Any, chat: ChatTokenizer, texts: list[str], most_tokens: int) -> list[str]:
    tokenizer = chat.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(
        texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    length = int(batch["input_ids"].shape[1])
    room = getattr(model.config, "max_position_embeddings", None) or length + most_tokens
    output = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=max(1, min(most_tokens, room - length)),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    decoded = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    return [str(text).strip() for text in decoded]
