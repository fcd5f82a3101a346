"""The bodies of `/hub/…`, in and out. OpenAI's bodies are not here: vLLM validates those."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

Tag = Annotated[str, Field(min_length=1, max_length=64)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FeedbackIn(_In):
    """Exactly one of thumb (1 or -1), edit (the whole better answer) and tags."""

    interaction_id: str
    thumb: StrictInt | None = None
    edit: str | None = None
    tags: list[Tag] | None = Field(default=None, min_length=1, max_length=20)
    comment: str | None = None


class FeedbackOut(BaseModel):
    id: int
    interaction_id: str
    kind: Literal["thumb", "edit", "tags"]
    thumb: int | None
    edit: str | None
    tags: list[str]
    comment: str | None
    at: str


class InteractionOut(BaseModel):
    """As logged; `request` and `response` as JSON rather than text."""

    id: str
    at: str
    endpoint: str
    requested: str
    adapter: str
    digest: str
    request: Any
    answer: str
    response: Any
    status: Literal["complete", "incomplete", "failed"]
    error: str | None
    user: str | None
    ttft_ms: float | None
    latency_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    feedback: list[FeedbackOut]


class MessageIn(BaseModel):
    """What else a message holds (a name, tool calls) is vLLM's to validate."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class ComparisonIn(_In):
    messages: list[MessageIn] = Field(min_length=1)
    arms: tuple[str, str]
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)


class ComparisonOut(BaseModel):
    id: str


class VoteIn(_In):
    vote: Literal["left", "right", "tie", "both_bad", "none"]


class SideOut(BaseModel):
    """Which exact version (or `base`) wrote a side, and its interaction, for feedback on it."""

    arm: str
    interaction_id: str


class VoteOut(BaseModel):
    vote: str
    left: SideOut
    right: SideOut


class BaseOut(BaseModel):
    name: str
    digest: str


class AdapterOut(BaseModel):
    """`versions` counts them; `newest` is the highest number; aliases name numbers."""

    name: str
    base: str
    versions: int
    newest: int | None
    aliases: dict[str, int]


class AdaptersOut(BaseModel):
    base: BaseOut
    adapters: list[AdapterOut]


class ResidentOut(BaseModel):
    version: str
    state: str
    leases: int


class ResidencyOut(BaseModel):
    """`capacity` versions may be in the engine at once; `residents`, by name and number."""

    capacity: int
    loads: int
    evictions: int
    residents: list[ResidentOut]


class SuggestionsOut(BaseModel):
    prompts: list[str]
