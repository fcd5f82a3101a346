"""An interaction in the making: what was known at the request's arrival, then its answer."""

import time

from hub.clock import now
from hub.feedback.interactions import Interaction, new_id
from serve.caller import caller
from serve.requests.answer_items import Items
from serve.requests.figures import Figures
from serve.requests.surface import RESPONSES, SPEAKING, VECTORS
from serve.requests.transcript import Choices, Transcript
from serve.resolver import Arm


class Draft:
    """Times run from its making. `request` is the client's body as JSON text."""

    def __init__(
        self, endpoint: str, requested: str, arm: Arm, request: str, user: str | None = None
    ) -> None:
        self.id = new_id("int")
        self.transcript = _transcript(endpoint)
        self._at = now()
        self._started = time.perf_counter()
        self._ttft_ms: float | None = None
        self._endpoint = endpoint
        self._requested = requested
        self._arm = arm
        self._request = request
        self._user = user
        self._key = caller.get().id or None

    def mark_first_byte(self) -> None:
        self._ttft_ms = self._elapsed_ms()

    def finish(self, status: str, error: str | None = None) -> Interaction:
        """`status` is complete, incomplete (cut off) or failed."""
        arm, transcript = self._arm, self.transcript
        return Interaction(
            id=self.id,
            at=self._at,
            endpoint=self._endpoint,
            requested=self._requested,
            adapter=arm.logged,
            digest=arm.version.digest if arm.version else "",
            request=self._request,
            answer=transcript.answer,
            response=transcript.response,
            status=status,
            latency_ms=self._elapsed_ms(),
            error=error,
            user=self._user,
            ttft_ms=self._ttft_ms,
            prompt_tokens=transcript.prompt_tokens,
            completion_tokens=transcript.completion_tokens,
            key=self._key,
        )

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 3)


def _transcript(endpoint: str) -> Transcript:
    if endpoint == RESPONSES:
        return Items()
    if endpoint in SPEAKING:
        return Choices()
    return Figures(keep=endpoint not in VECTORS)
