"""Does an adapter change what the model says? Measured on the probabilities, not on sampled text.

The same model answers probe prompts with the adapter on and off, and the distributions of the next
token are compared at every position of the prompt. An adapter whose B matrices are zero, or whose
tensors fit no module of the base, gives exactly zero here. The threshold is far above what another
order of summation does (2e-5 in float32) and far below what any useful adapter does (over 1).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hub.errors import TrainingError
from train.data.rows import Message
from train.runtime import quiet, ready
from train.templates.tokens import ChatTokenizer
from train.trainers.loading import load_base, with_adapter

# The largest change, in nats, that still counts as none.
THRESHOLD = 0.01
# Changes among tokens that neither model would ever say don't count.
_LEAST_PROBABILITY = 1e-3
_MOST_TOKENS = 512

PROMPTS = (
    "Hello!",
    "What can you do for me?",
    "I need help with my account.",
    "Please send 25 dollars to Ann.",
    "Write one sentence about the sea.",
    "Where is my order?",
    "Give me the answer as JSON.",
    "Thank you, goodbye.",
)


@dataclass(frozen=True)
class EffectReport:
    """`max_change` is the largest |difference of log-probability| in nats, among tokens that base
    or adapter gives 0.1% or more, or its highest probability; `mean_kl` is the mean
    KL(tuned || base) in nats a position."""

    prompts: int
    positions: int
    max_change: float
    mean_kl: float

    @property
    def changes(self) -> bool:
        """Whether the adapter changes what the model says."""
        return self.max_change >= THRESHOLD

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "threshold": THRESHOLD, "changes": self.changes}


class EffectMeter:
    """Measures one adapter after another; a base stays loaded until another one is asked for."""

    def __init__(self) -> None:
        self._loaded: tuple[str, Any, ChatTokenizer] | None = None

    def measure(
        self, base_source: str, adapter: Path, prompts: Sequence[str] | None = None
    ) -> EffectReport:
        """Compare the base's answers with and without an adapter.

        Raises:
            BaseError: when the base cannot be loaded.
            TrainingError: when the adapter cannot be, or makes numbers that are not finite.
        """
        if self._loaded is None or self._loaded[0] != base_source:
            self._loaded = None  # before the next one comes: two may not fit
            ready(quantize=False)
            self._loaded = (base_source, load_base(base_source), ChatTokenizer.load(base_source))
        source, base, chat = self._loaded
        self._loaded = None  # an adapter that fails half-way leaves the base unusable
        model = with_adapter(base, adapter)
        try:
            return effect_of(model, chat, prompts)
        finally:
            self._loaded = (source, model.unload(), chat)


def effect_of(
    model: Any, chat: ChatTokenizer, prompts: Sequence[str] | None = None
) -> EffectReport:
    """The same for a PeftModel that is loaded already; raises TrainingError as the meter does."""
    asked = tuple(prompts) if prompts else PROMPTS
    largest, divergence, positions = 0.0, 0.0, 0
    with torch.no_grad(), quiet():
        for prompt in asked:
            text = chat.prompt_text([Message("user", prompt)])
            tokens = chat.tokenizer(text, add_special_tokens=False, return_tensors="pt")
            ids = tokens["input_ids"][:, -_MOST_TOKENS:].to(model.device)
            tuned = _log_probabilities(model, ids)
            with model.disable_adapter():
                base = _log_probabilities(model, ids)
            either = torch.maximum(tuned, base).exp()
            # An untrained base gives no token that much; its likeliest ones count all the same.
            likely = either >= either.amax(-1, keepdim=True).clamp(max=_LEAST_PROBABILITY)
            largest = max(largest, float((tuned - base).abs()[likely].max()))
            divergence += float((tuned.exp() * (tuned - base)).sum())
            positions += tuned.shape[0]
    return EffectReport(len(asked), positions, largest, divergence / positions)


def _log_probabilities(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(positions, vocabulary), float32."""
    logits = model(input_ids=ids).logits[0].float()
    if not torch.isfinite(logits).all():
        raise TrainingError(
            "the model gives numbers that are not finite with this adapter",
            hint="Train it again with a lower learning_rate; one such adapter harms an engine.",
        )
    return torch.log_softmax(logits, dim=-1)
