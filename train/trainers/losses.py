"""The loss of a model on rows: mean nats over the tokens that training learns from."""

from collections.abc import Sequence
from typing import Any

import torch

from train.data.rows import Row
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer


def loss_on(
    model: Any, chat: ChatTokenizer, rows: Sequence[Row], *, cut: int | None = None
) -> float:
    """Over all rows together, each token counting the same; NaN where no token is learned.

    Only the first `cut` tokens of a row, where it is given.
    """
    total, count = 0.0, 0
    with quiet(), torch.no_grad():
        for row in rows:
            encoded = chat.encode(row).cut(cut)
            ids = torch.tensor([encoded.ids], device=model.device)
            logits = model(input_ids=ids).logits[0, :-1].float()
            given = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
            marks = torch.tensor(encoded.trained[1:], device=model.device)
            total -= float(given[marks].sum())
            count += int(marks.sum())
    return total / count if count else float("nan")
