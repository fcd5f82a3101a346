"""The bodies of `/hub/…`, in and out. OpenAI's bodies are not here: vLLM validates those."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from hub.facts import SignatureFacts
from hub.records import AdapterSummary
from serve.engines.base import EngineState
from serve.engines.spec import Loading
from serve.placement.slots import SlotState

Tag = Annotated[str, Field(min_length=1, max_length=64)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


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
    """Without the log's own number, which would tell how much others say."""

    interaction_id: str
    kind: Literal["thumb", "edit", "tags"]
    thumb: int | None
    edit: str | None
    tags: list[str]
    comment: str | None
    at: str


class InteractionOut(BaseModel):
    """As logged; `request` and `response` as JSON rather than text. `key` is the id of the API key
    that asked."""

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
    key: str | None
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


class AdaptersOut(BaseModel):
    """`base` is the one that this server's engine runs, None without an engine."""

    base: BaseOut | None
    items: list[AdapterSummary]
    next: str | None


class AliasIn(_In):
    """Point an alias at the version that `to` selects of the adapter (`3`, an alias, `sha256:…`;
    None is production). `expect` is the number that the alias must name now, 0 for none. A
    protected alias wants the gate's PASS, or `force` with a reason."""

    to: str | None = None
    action: Literal["promote", "set"] = "set"
    expect: StrictInt | None = None
    force: bool = False
    why: str = ""


class RollbackIn(_In):
    """Without `to`, back to the version before the present one."""

    to: StrictInt | None = None
    why: str = ""


class FileIn(_In):
    """A file that was put to `/hub/blobs/{sha256}`, or that the hub has anyway."""

    path: str
    sha256: Sha256
    size: StrictInt = Field(ge=0)


class UploadedOut(BaseModel):
    """`size` in bytes."""

    sha256: str
    size: int


class PublishIn(_In):
    """`files` are those of a PEFT folder: adapter_config.json and adapter_model.safetensors. `base`
    is a base's name or digest. What another hub has published brings its canonical `manifest` and
    its `signatures`."""

    files: list[FileIn] = Field(min_length=1, max_length=16)
    base: str | None = None
    lineage: dict[str, Any]
    manifest: str | None = None
    signatures: list[SignatureFacts] = []


class VerifyIn(_In):
    """`effect` runs the base model too. `keys` are public keys (OpenSSH's line or PEM); with any, a
    signature by one of them is demanded."""

    effect: bool = True
    keys: list[str] = []


class GcIn(_In):
    keep_days: float
    dry_run: bool


class ErrorPartsOut(BaseModel):
    """OpenAI's error object. `detail` holds the parts that `message` is made of."""

    message: str
    type: str
    param: None
    code: str | None
    detail: dict[str, Any] | None = None


class ErrorOut(BaseModel):
    error: ErrorPartsOut


class ResidentOut(BaseModel):
    """`leases` are the requests that use it now. `last_used` is None until one did."""

    version: str
    state: SlotState
    leases: int
    pinned: bool
    last_used: str | None


class SlotsOut(BaseModel):
    """`waiting` versions want a slot and have none."""

    limit: int
    used: int
    waiting: int


class EngineResidencyOut(BaseModel):
    """What one engine holds. `gpu_slots` are the versions that run in one batch, `cpu_slots` those
    that are loaded, `foreign` (other people's, left alone) among them. Of an engine that loads
    lazily nothing is known: slots are None, and there are no residents. Slots are None as well for
    a key that is limited to namespaces, and so are `url` and `generation`."""

    name: str
    url: str | None
    loading: Loading
    state: EngineState
    generation: int | None
    gpu_slots: SlotsOut | None
    cpu_slots: SlotsOut | None
    foreign: list[str]
    residents: list[ResidentOut]


class PinOut(BaseModel):
    """`version` is None while the reference means none."""

    reference: str
    version: str | None


class ResidencyOut(BaseModel):
    """`loads` and `evictions` count since the gateway's start, over all engines; None, as slots,
    for a key that is limited to namespaces."""

    loads: int | None
    evictions: int | None
    engines: list[EngineResidencyOut]
    pins: list[PinOut]


class ResidencyIn(_In):
    """A reference to one adapter's version."""

    adapter: str


class ResidencyChangedOut(BaseModel):
    """`engines` have it now; of an unload: those that it was unloaded from."""

    version: str | None
    engines: list[str]


class SuggestionsOut(BaseModel):
    prompts: list[str]
