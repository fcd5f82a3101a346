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
class Evaluated:
    """An evaluation to be kept with a version. `rows` counts the rows of the data set, `result` is
    all that was measured, its `summary` and the verdict's `reason` among it."""

    against: str
    dataset: str
    dataset_digest: str
    source: str
    format: str
    rows: int
    metric: str
    verdict: str
    result: dict[str, Any]


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
class LintFacts:
    """What the lint said of a data set: how many findings of each severity, and one line each."""

    counts: dict[str, int]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class DatasetFacts:
    """What a version was trained on; `digest` is over the canonical rows. None is not known."""

    name: str
    digest: str
    format: str
    rows: int | None
    training_rows: int | None
    validation_rows: int | None
    lint: LintFacts | None


@dataclass(frozen=True)
class ParentFacts:
    """A version that this one was continued or composed from; `here` is false where this hub does
    not have it, `deleted` true where it no longer has."""

    version: str
    digest: str
    relation: str
    weight: str | None = None
    here: bool = True
    deleted: bool = False


@dataclass(frozen=True)
class VersionFacts:
    """All that is known of a version. `folder` is where it lies on the hub's own machine, `store`
    where its blobs are; both are None where the answer came over HTTP."""

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
    store: str | None = None
    dataset: DatasetFacts | None = None
    run: str | None = None
    parents: tuple[ParentFacts, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """`deleted`: it was that at the time asked for, and has been deleted since."""

    version: str
    digest: str
    deleted: bool = False


@dataclass(frozen=True)
class AliasFacts:
    adapter: str
    alias: str
    number: int
    protected: bool


@dataclass(frozen=True)
class Published:
    """`created` is false when these very bytes were published before. `mended` counts what was
    damaged or missing in the store and is whole again."""

    version: str
    digest: str
    rank: int
    size: int
    created: bool
    production: int | None
    mended: int = 0


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
    """`kind` is base, dataset, run, source or version, or `more` where the tree is cut short;
    `relation` says what it is to the node above it; `facts` are one line for people; `name` of a
    version is its reference, and `deleted` is true where it is no longer there."""

    kind: str
    name: str
    relation: str
    facts: str
    children: "tuple[LineageNode, ...]" = ()
    deleted: bool = False


@dataclass(frozen=True)
class Lineage:
    """Both ways from one version: what it came from, and what came of it."""

    version: str
    digest: str
    ancestors: tuple[LineageNode, ...]
    descendants: tuple[LineageNode, ...]
    deleted: bool = False


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
    """What differs between two versions. `weights` has the most changed module first, `total` takes
    all of them as one; where they could not be compared both are absent and `note` says why."""

    a: str
    b: str
    config: tuple[Change, ...]
    data: tuple[Change, ...]
    metrics: tuple[Change, ...]
    other: tuple[Change, ...]
    weights: tuple[ModuleChange, ...]
    total: ModuleChange | None = None
    note: str = ""


@dataclass(frozen=True)
class Removed:
    """The versions that are gone, and the bytes that only they needed: `hub gc` frees those."""

    versions: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class SweptVersion:
    """A version that nothing reaches: `why` says since when, `size` is of its files in bytes."""

    version: str
    why: str
    size: int


@dataclass(frozen=True)
class Swept:
    """What gc removed, or with `dry_run` would: `versions` that nothing reaches, and `files` stored
    files and leftovers of `size` bytes that no version needs (those of versions that were removed
    before are among them). `kept` counts the versions that stay, by what keeps them."""

    dry_run: bool
    versions: tuple[SweptVersion, ...]
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


@dataclass(frozen=True)
class KeyWanted:
    """An API key to be made. `namespaces` None means every adapter; `rate_per_minute` requests,
    `concurrent` of them at the engine at once, None without a limit; `expires_at` as `hub.clock`
    writes it, None for never."""

    name: str
    scopes: tuple[str, ...]
    namespaces: tuple[str, ...] | None = None
    rate_per_minute: int | None = None
    concurrent: int | None = None
    expires_at: str | None = None


@dataclass(frozen=True)
class KeyFacts:
    """What may be known of an API key; never its secret. `id` is the public part that the secret
    carries; `state` is living, expired or revoked."""

    id: str
    name: str
    scopes: tuple[str, ...]
    namespaces: tuple[str, ...] | None
    rate_per_minute: int | None
    concurrent: int | None
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_by: str | None
    revoked_at: str | None
    state: str


@dataclass(frozen=True)
class NewKey:
    """A key that was just made. This is the only time that `secret` exists outside its owner."""

    key: KeyFacts
    secret: str
