"""What the base and the tuned model answer to a few rows that were not trained on.

Greedy and short, so that the two differ by the adapter alone. For reading in the report; accuracy
is measured through the server (`hub eval`), not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.rows import Row
from train.runtime import quiet
from train.tokens import ChatTokenizer

MOST_ROWS = 10
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Sample:
    """One question, the answer that the data gives, and the two models' answers."""

    row: Row
    base: str
    tuned: str


def answer_samples(model: Any, chat: ChatTokenizer, rows: Sequence[Row]) -> list[Sample]:
    """Let a PeftModel answer up to ten rows, spread over those given, with and without adapter."""
    stride = max(1, len(rows) // MOST_ROWS)
    chosen = list(rows)[::stride][:MOST_ROWS]
    if not chosen:
        return []
    with quiet(), torch.no_grad():
        tuned = _answers(model, chat, chosen)
        with model.disable_adapter():
            base = _answers(model, chat, chosen)
    return [Sample(*three) for three in zip(chosen, base, tuned, strict=True)]


def _answers(model: Any, chat: ChatTokenizer, rows: Sequence[Row]) -> list[str]:
    tokenizer = chat.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(
        [chat.prompt_text(row.prompt, row.tools) for row in rows],
        add_special_tokens=False,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(model.device)
    output = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = output[:, batch["input_ids"].shape[1] :]
    return [str(text).strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
