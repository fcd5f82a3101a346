"""`hub verify`: the publish gate's checks again, on what is in the hub now, and what time can do.

After the checks of `hub.inspect` on the version's folder come four that only a version has:

    stored     its blobs are the bytes that were published; its folder is those, no more
    manifest   its row can be read and says what its files say: digest, base, files, rank
    signature  it is signed by a trusted key (only where keys are given)
    effect     its base answers differently with it

The effect takes the model, so it comes last and only for files that have passed; where the model
can't be run here it is skipped, which is no fault of the version.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hub.adapterfile import FILES, read_config
from hub.card import render_card
from hub.errors import (
    AdapterRejected,
    BaseError,
    IntegrityError,
    MissingExtra,
    NotSigned,
    StoreUnavailable,
    UnknownReference,
)
from hub.facts import CheckResult, Verification
from hub.inspect import FAILED, OK, SKIPPED, examine, told
from hub.keys import PublicKey
from hub.names import parse_adapter_reference
from hub.publish import MeasureEffect, require_effect
from hub.records import Base, Version
from hub.registry import Registry
from hub.signing import require_signature
from hub.store import Store


def verify(
    registry: Registry,
    store: Store,
    reference: str | None,
    *,
    measure_effect: MeasureEffect | None,
    keys: Sequence[PublicKey] = (),
) -> Iterator[Verification]:
    """Check one version, or all (None), those of one base together.

    Without `measure_effect` the effect is skipped. Of all, one that is deleted meanwhile is left
    out. A row that can't be read is a failed `manifest` of its version; the others are still
    checked. Raises UnknownReference, InvalidReference.
    """
    for name, number, digest in _chosen(registry, reference):
        try:
            version = registry.versions.get(name, number)
        except UnknownReference:
            if reference is not None:
                raise
        except IntegrityError as error:
            failed = CheckResult("manifest", FAILED, f"{error}. {error.hint}")
            yield Verification(f"{name}@{number}", digest, False, (failed,))
        else:
            yield verify_version(registry, store, version, measure_effect=measure_effect, keys=keys)


def _chosen(registry: Registry, reference: str | None) -> list[tuple[str, int, str]]:
    """Adapter, number and digest of what is to be verified, whether its row can be read or not."""
    living = registry.versions.living()
    if reference is None:
        return living
    parsed = parse_adapter_reference(reference)
    try:
        version = registry.resolve(parsed)
    except IntegrityError as error:
        found = [row for row in living if f"{row[0]}@{row[1]}" == error.where]
        if not found:
            raise
        return found
    return [(version.adapter, version.number, version.digest)]


def verify_version(
    registry: Registry,
    store: Store,
    version: Version,
    *,
    measure_effect: MeasureEffect | None,
    keys: Sequence[PublicKey] = (),
) -> Verification:
    base = registry.bases.get(version.base)
    folder = store.folder(version)
    # First, because it makes the folder again where it is missing.
    stored = _check("stored", lambda: _require_stored(store, version), folder)
    # The config names the base as it was called where the adapter was made.
    files = examine(folder, replace(base, name=version.manifest.base.name))
    checks = [
        *files,
        stored,
        _check("manifest", lambda: _require_row(version, base, folder), folder),
    ]
    if keys:
        checks.append(_signature(registry, version, keys))
    checks.append(_effect(measure_effect, base, folder, checks))
    sound = all(check.state != FAILED for check in checks)
    return Verification(str(version), version.digest, sound, tuple(checks))


def _require_stored(store: Store, version: Version) -> None:
    """Raises IntegrityError, StoreUnavailable."""
    for entry in version.manifest.files:
        if not store.blobs.exists(entry.sha256):
            raise IntegrityError(
                f"the blob of {entry.path} is missing", where=store.blobs.where(entry.sha256)
            )
        if store.blobs.damaged(entry.sha256):
            raise IntegrityError(
                f"the blob of {entry.path} is damaged: its bytes are not what its name says",
                where=store.blobs.where(entry.sha256),
                hint="Publish the same files again, or restore a backup.",
            )
    store.materialise(version, render_card(version))
    store.verify(version)


def _require_row(version: Version, base: Base, folder: Path) -> None:
    """Raises IntegrityError."""
    manifest = version.manifest
    names = {entry.path for entry in manifest.files}
    rank = _rank_in(folder)
    facts = (
        (manifest.digest() == version.digest, f"its manifest's digest is {manifest.digest()}"),
        (manifest.base.digest() == base.digest, "its manifest is of another base"),
        (names == set(FILES), f"its files are {', '.join(sorted(names))}"),
        (manifest.size == version.size, f"its files are {manifest.size} bytes"),
        (rank in (None, version.rank), f"it says rank {version.rank}, its files rank {rank}"),
    )
    for holds, words in facts:
        if not holds:
            raise IntegrityError(
                f"the row of {version} does not fit: {words}", hint="Run `hub doctor`."
            )


def _rank_in(folder: Path) -> int | None:
    """The rank that the files have; None where the check `config` says why it can't be read."""
    try:
        return int(read_config(folder)["r"])
    except AdapterRejected:
        return None


def _signature(registry: Registry, version: Version, keys: Sequence[PublicKey]) -> CheckResult:
    try:
        found = require_signature(
            str(version), version.manifest.to_json(), registry.signatures.of(version), keys
        )
    except (NotSigned, MissingExtra) as error:
        return CheckResult("signature", FAILED, f"{error}. {error.hint}")
    return CheckResult("signature", OK, f"by {found.signed_by}, {found.key_id}")


def _effect(
    measure: MeasureEffect | None, base: Base, folder: Path, before: Sequence[CheckResult]
) -> CheckResult:
    failed = [check.check for check in before if check.state == FAILED]
    if measure is None:
        return CheckResult("effect", SKIPPED, "not asked for")
    if failed:
        return CheckResult("effect", SKIPPED, f"{failed[0]} has failed")
    try:
        effect = require_effect(measure, base, folder)
    except (MissingExtra, BaseError) as error:
        return CheckResult("effect", SKIPPED, told(error, folder))
    except AdapterRejected as error:
        return CheckResult("effect", FAILED, told(error, folder))
    return CheckResult(
        "effect",
        OK,
        f"largest difference in log-probability {effect.largest:.2g},"
        f" mean divergence {effect.divergence:.2g} nats",
    )


def _check(name: str, act: Callable[[], None], folder: Path) -> CheckResult:
    try:
        act()
    except (IntegrityError, AdapterRejected, StoreUnavailable) as error:
        return CheckResult(name, FAILED, told(error, folder))
    return CheckResult(name, OK)
