"""How fast this machine trains this base: a real step, timed, before a run that would be the first.

Two steps of forward, backward and Adam on the first rows of the data; the second is what counts,
because the first warms up what libraries prepare. For dpo and kto the step is that of an adapter on
as many tokens, with a third more for their reference's forward pass.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from train.config import Settings
from train.data.rows import Row
from train.presets import PREFERENCES
from train.runtime import quiet
from train.templates.tokens import ChatTokenizer
from train.trainers.loading import device, load_base
from train.trainers.lora import lora_model
from train.trainers.training import Explained

_REFERENCE = 4 / 3


def tokens_per_second(
    settings: Settings, base_source: str, rows: Sequence[Row], parent: Path | None
) -> float:
    """Of a step with `batch_size` of these rows.

    Raises:
        BaseError, TrainingError: when the base can't be loaded, or memory does not do.
    """
    chat = ChatTokenizer.load(base_source)
    encoded = [chat.encode(row).ids for row in rows[: settings.batch_size]]
    with quiet(), Explained(settings):
        if settings.method == "full":
            model = load_base(base_source, dtype=torch.float32).requires_grad_(True)
        else:
            model = lora_model(settings, base_source, parent)
        model.train()
        optimizer = torch.optim.AdamW(
            [one for one in model.parameters() if one.requires_grad], lr=0.0
        )
        batch = _padded(encoded)
        for _ in range(2):
            began = time.monotonic()
            model(**batch, labels=batch["input_ids"]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if device().type == "cuda":
                torch.cuda.synchronize()
            seconds = time.monotonic() - began
    slower = _REFERENCE if settings.method in PREFERENCES else 1.0
    return sum(map(len, encoded)) / seconds / slower


def _padded(encoded: Sequence[Sequence[int]]) -> dict[str, Any]:
    longest = max(map(len, encoded))
    ids = torch.zeros((len(encoded), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(encoded):
        ids[at, : len(row)] = torch.tensor(row)
        mask[at, : len(row)] = 1
    return {"input_ids": ids.to(device()), "attention_mask": mask.to(device())}
