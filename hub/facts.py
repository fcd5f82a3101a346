"""What a hub answers with: frozen records that are the same here and over HTTP, and in `--json`.

Every field is JSON (or a record of such fields), so `dataclasses.asdict` is the wire format and
pydantic reads it back. What only this process may hold (row ids, open files) is in `hub.records`.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FileFacts:
    """One file of a version; `size` in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class BaseFacts:
    """The base that a version stands on; hashes are sha256 in hex, '' where there is none."""

    name: str
    revision: str
    digest: str
    config_sha256: str
    tokenizer_sha256: str
    template_sha256: str


@dataclass(frozen=True)
class EvaluationFacts:
    against: str
    dataset_digest: str
    metric: str
    verdict: str
    summary: str
    at: str


@dataclass(frozen=True)
class SignatureFacts:
    """A detached ed25519 signature of a version's manifest. `key_id` is SHA256:… as ssh-keygen
    prints it, `public_key` OpenSSH's one line, `signature` base64."""

    key_id: str
    public_key: str
    signature: str
    signed_by: str
    signed_at: str


@dataclass(frozen=True)
class VersionFacts:
    """All that is known of a version. `folder` is where it lies on the hub's own machine, or None
    where the answer came over HTTP."""

    version: str
    adapter: str
    number: int
    digest: str
    base: BaseFacts
    rank: int
    size: int
    files: tuple[FileFacts, ...]
    aliases: tuple[str, ...]
    published_by: str
    published_at: str
    lineage: dict[str, Any]
    evaluations: tuple[EvaluationFacts, ...]
    signatures: tuple[SignatureFacts, ...]
    folder: str | None = None


@dataclass(frozen=True)
class Resolved:
    version: str
    digest: str


@dataclass(frozen=True)
class AliasFacts:
    adapter: str
    alias: str
    number: int
    protected: bool


@dataclass(frozen=True)
class Published:
    """`created` is false when these very bytes were published before."""

    version: str
    digest: str
    rank: int
    size: int
    created: bool
    production: int | None


@dataclass(frozen=True)
class CheckResult:
    """One named check of the publish gate: `state` is ok, failed or skipped."""

    check: str
    state: str
    message: str = ""


@dataclass(frozen=True)
class Verification:
    """What `hub verify` found for one version."""

    version: str
    digest: str
    ok: bool
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True)
class LineageNode:
    """`kind` is base, dataset, run or version; `relation` says what it is to the node above it
    (continued, composed, trained on, stands on, made by); `facts` are one line for people."""

    kind: str
    name: str
    relation: str
    facts: str
    children: "tuple[LineageNode, ...]" = ()


@dataclass(frozen=True)
class Lineage:
    """Both ways from one version: what it came from, and what came of it."""

    version: str
    digest: str
    ancestors: tuple[LineageNode, ...]
    descendants: tuple[LineageNode, ...]


@dataclass(frozen=True)
class Change:
    """One difference: a dotted `field`, and its value on either side (None where it is absent)."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True)
class ModuleChange:
    """How far the weight update of a module moved: Frobenius norms of a's, of b's and of their
    difference, and the cosine between both updates (None when one is zero or absent)."""

    module: str
    norm_a: float
    norm_b: float
    norm_difference: float
    cosine: float | None


@dataclass(frozen=True)
class Diff:
    a: str
    b: str
    config: tuple[Change, ...]
    data: tuple[Change, ...]
    metrics: tuple[Change, ...]
    other: tuple[Change, ...]
    weights: tuple[ModuleChange, ...]


@dataclass(frozen=True)
class Removed:
    """The versions that are gone; their bytes go with the next `hub gc`."""

    versions: tuple[str, ...]


@dataclass(frozen=True)
class Swept:
    """What gc removed, or would remove: `versions` that nothing reaches, with the reason that each
    may go; `files` are the stored files and leftovers that no version needs, `size` their bytes."""

    dry_run: bool
    versions: tuple[str, ...]
    kept: dict[str, int]
    files: int
    size: int


@dataclass(frozen=True)
class Finding:
    """One invariant that `hub doctor` looked at: `state` is ok, warning or broken; `mend` says what
    to do, '' when nothing is."""

    check: str
    state: str
    message: str
    mend: str = ""
