"""What the registry hands out: frozen records, no behaviour beyond naming themselves."""

from dataclasses import dataclass
from typing import Any

from hub.manifest import BaseIdentity, Manifest
from hub.names import engine_name


@dataclass(frozen=True)
class Base:
    """A base model that adapters are trained on.

    `source` is what transformers and vLLM load: a folder, or a name on the Hugging Face Hub.
    `shapes` maps the names of its weights to their shapes.
    """

    id: int
    name: str
    source: str
    identity: BaseIdentity
    digest: str
    shapes: dict[str, tuple[int, ...]]
    added_at: str


@dataclass(frozen=True)
class Version:
    """One immutable version of an adapter."""

    id: int
    adapter: str
    number: int
    digest: str
    base: str
    base_digest: str
    rank: int
    size: int
    manifest: Manifest
    lineage: dict[str, Any]
    published_by: str
    published_at: str
    run_id: str | None = None
    dataset_id: int | None = None
    deleted_at: str | None = None

    def __str__(self) -> str:
        return f"{self.adapter}@{self.number}"

    @property
    def engine_name(self) -> str:
        return engine_name(self.adapter, self.number, self.digest)


@dataclass(frozen=True)
class Kin:
    """A version that another one comes from, or that comes from it: `relation` is continued or
    composed, `weight` a decimal for a composed one."""

    version: Version
    relation: str
    weight: str | None


@dataclass(frozen=True)
class AdapterSummary:
    """One line of `hub ls`."""

    name: str
    base: str
    versions: int
    newest: int | None
    aliases: dict[str, int]
    updated_at: str


@dataclass(frozen=True)
class AliasMove:
    """One row of an alias's history; `None` for a version means that there was none.

    `from_deleted` and `to_deleted` say that the version has been deleted since.
    """

    alias: str
    action: str
    from_number: int | None
    to_number: int | None
    who: str
    why: str
    verdict: str
    forced: bool
    at: str
    from_deleted: bool = False
    to_deleted: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set that was linted or trained on; `digest` is over its canonical rows."""

    id: int
    digest: str
    name: str
    source: str
    format: str
    rows: int
    lint: dict[str, Any]
    added_at: str


@dataclass(frozen=True)
class Run:
    """One training run. `status` is running, finished, failed, cancelled or paused.

    `wanted` is what somebody asks of it from elsewhere: cancel, pause or nothing.
    """

    id: str
    adapter: str
    method: str
    status: str
    base: str
    dataset_digest: str
    config: dict[str, Any]
    pid: int
    started_at: str
    finished_at: str | None
    lineage: dict[str, Any] | None
    error: str | None
    wanted: str | None = None


@dataclass(frozen=True)
class RunEvent:
    """Something that happened in a run; of one run ids grow with time. Kinds and their data:

    started     resumed, true where it goes on from a checkpoint
    step        step, of, epoch, loss, learning_rate, tokens_per_s
    evaluated   step, loss
    checkpoint  step, loss (the newest on validation rows, or None), path
    warning     message
    paused, cancelled   step
    failed      error
    published   version, or base
    finished    {}
    """

    id: int
    run: str
    at: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a version against the base or another version."""

    id: int
    version: str
    against: str
    dataset_digest: str
    metric: str
    verdict: str
    result: dict[str, Any]
    at: str
