"""Publishing: a PEFT folder becomes an immutable version, or nothing at all.

The order makes it so: the files are checked, then stored as blobs (unreachable until a row names
them) and read back, then one transaction adds the version, then its folder gets its name, which
can be made again at any time. A crash in between leaves blobs that `hub gc` finds, never half a
version.

What another hub has published comes with its manifest. It passes the same checks, and keeps its
digest and its signatures; what stands on which base is decided by the base's content.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hub.adapterfile import FILES, check_files
from hub.basechoice import base_for
from hub.blobs import Put
from hub.card import render_card
from hub.errors import AdapterRejected, IntegrityError, TrainingError
from hub.facts import Published, SignatureFacts
from hub.inspect import inspect_adapter
from hub.manifest import Manifest, describe
from hub.names import PRODUCTION, parse_adapter_reference
from hub.records import Base, Dataset, Version
from hub.registry import Registry
from hub.signing import check_signature
from hub.store import Store


@dataclass(frozen=True)
class Effect:
    """How far an adapter moves the model's next-token distribution on probe prompts.

    `largest` is the largest absolute difference in log-probability, `divergence` the mean
    Kullback-Leibler divergence from the base's distribution, in nats.
    """

    changes: bool
    largest: float
    divergence: float


# Takes the base's source and the adapter's folder. Running a model is not this package's business.
MeasureEffect = Callable[[str, Path], Effect]


def publish(
    registry: Registry,
    store: Store,
    name: str,
    folder: Path,
    base: Base,
    *,
    measure_effect: MeasureEffect,
    lineage: dict[str, Any],
    manifest: Manifest | None = None,
    signatures: Sequence[SignatureFacts] = (),
    run_id: str | None = None,
    dataset: Dataset | None = None,
    parent: Version | None = None,
) -> tuple[Version, bool]:
    """`publish_and_mend`, for those who don't ask what was mended."""
    version, created, _ = publish_and_mend(
        registry,
        store,
        name,
        folder,
        base,
        measure_effect=measure_effect,
        lineage=lineage,
        manifest=manifest,
        signatures=signatures,
        run_id=run_id,
        dataset=dataset,
        parent=parent,
    )
    return version, created


def publish_and_mend(
    registry: Registry,
    store: Store,
    name: str,
    folder: Path,
    base: Base,
    *,
    measure_effect: MeasureEffect,
    lineage: dict[str, Any],
    manifest: Manifest | None = None,
    signatures: Sequence[SignatureFacts] = (),
    run_id: str | None = None,
    dataset: Dataset | None = None,
    parent: Version | None = None,
) -> tuple[Version, bool, int]:
    """Check a folder and add it as the next version of `name`; tells whether it is new.

    `manifest` is what another hub published it as. What is damaged in the store of the same bytes
    (also when other versions share them), or missing of a version that is here already, is mended
    from the folder; the last number says how many things were.

    Raises:
        AdapterRejected: when a check refuses it; nothing is left behind.
        IntegrityError: when the files are not those of `manifest`, or something lies where the
            version's folder belongs.
        BadSignature: when a signature is not one of the manifest.
        HubError: when the disk is full.
    """
    registry.versions.require_base(name, base)
    check_files(folder)
    known_as = base.identity if manifest is None else manifest.base
    found = Manifest(known_as, tuple(describe(folder / file, file) for file in FILES))
    if manifest is not None:
        _require_same(found, manifest, folder)
    for signature in signatures:
        check_signature(found.to_json(), signature)
    known = registry.versions.find(name, found.digest())
    if known is not None:
        mended = store.mend(known, folder, render_card(known))
        servable_folder(store, known)
        version, created = known, False
    else:
        # The config names the base as it was called where the adapter was made.
        adapter = inspect_adapter(folder, replace(base, name=known_as.name))
        effect = require_effect(measure_effect, base, folder)
        measured = {"largest": effect.largest, "divergence": effect.divergence}
        # Of a version from elsewhere, what was measured there stays.
        kept = lineage.get("effect") if manifest is not None else None
        following = _require_free_place(registry, store, name)
        with store.adding():
            put = [store.blobs.put(folder / entry.path, entry) for entry in found.files]
            mended = put.count(Put.MENDED)
            # Whatever can go wrong with the folder goes wrong before there is a row.
            with store.prepared(found, following) as ready:
                version, created = registry.versions.add(
                    name,
                    found,
                    rank=adapter.rank,
                    lineage={**lineage, "effect": kept or measured},
                    run_id=run_id,
                    dataset_id=dataset.id if dataset else None,
                    parent=parent,
                )
                store.place(ready, version, render_card(version))
    for signature in signatures:
        registry.signatures.add(version, signature)
    return version, created, mended


def publish_folder(
    registry: Registry,
    store: Store,
    name: str,
    folder: Path,
    base: str | None,
    *,
    measure_effect: MeasureEffect,
    lineage: dict[str, Any],
    manifest: str | None = None,
    signatures: Sequence[SignatureFacts] = (),
) -> Published:
    """`publish` as `hub.operations` has it: base, manifest and parent as text.

    Raises:
        UnknownBase: when the base is not in this hub.
        InvalidData: when the manifest is none.
    """
    known_as = None if manifest is None else Manifest.from_json(manifest)
    trained_on = lineage.get("dataset")
    digest = trained_on.get("digest") if isinstance(trained_on, dict) else None
    run = registry.ledger.find_run(str(lineage.get("run", "")))
    version, created, mended = publish_and_mend(
        registry,
        store,
        name,
        folder,
        base_for(registry, name, folder, wanted=base, manifest=known_as),
        measure_effect=measure_effect,
        lineage=lineage,
        manifest=known_as,
        signatures=signatures,
        run_id=run.id if run else None,
        dataset=registry.ledger.dataset(str(digest)) if digest else None,
        parent=parent_here(registry, lineage, foreign=known_as is not None),
    )
    production = registry.aliases.number(name, PRODUCTION)
    return Published(
        str(version), version.digest, version.rank, version.size, created, production, mended
    )


def servable_folder(store: Store, version: Version) -> Path:
    """The version's folder, made if need be and compared with its hashes.

    Raises:
        IntegrityError: when stored bytes are not what was published.
    """
    folder = store.folder(version)
    # On the way of an adapter's first request: a card is made only for a folder that is.
    if not folder.is_dir():
        store.materialise(version, render_card(version))
    store.verify(version)
    return folder


def parent_here(registry: Registry, lineage: dict[str, Any], *, foreign: bool) -> Version | None:
    """The version in this hub that a lineage's `parent` is, if it is here.

    By digest, because `support@2` means something else in another hub; only a lineage of this hub's
    own (not `foreign`) may name it by reference alone.

    Raises:
        UnknownReference: when it does, and there is no such version.
    """
    text, digest = lineage.get("parent"), lineage.get("parent_digest")
    if not isinstance(text, str) or not text:
        return None
    if not isinstance(digest, str):
        return None if foreign else registry.resolve(parse_adapter_reference(text))
    same = registry.versions.with_digest(digest)
    named = [version for version in same if str(version) == text]
    return next(iter(named or same), None)


def require_effect(measure_effect: MeasureEffect, base: Base, folder: Path) -> Effect:
    """The effect of an adapter on its base.

    Raises:
        AdapterRejected: by `effect`, when it changes nothing, can't be loaded, or breaks the model.
        MissingExtra: when the libraries that run models are not installed.
        BaseError: when the base can't be loaded.
    """
    try:
        effect = measure_effect(base.source, folder)
    except TrainingError as error:
        raise AdapterRejected(
            error.message, check="effect", where=str(folder), hint=error.hint
        ) from error
    if not effect.changes:
        raise AdapterRejected(
            "the model answers the same with it as without it"
            f" (largest difference in log-probability {effect.largest:.1e})",
            check="effect",
            where=str(folder),
            hint="Train longer or with a higher learning rate.",
        )
    return effect


def _require_free_place(registry: Registry, store: Store, name: str) -> str:
    """What the next version will be called; raises IntegrityError when its place is taken."""
    last = registry.versions.last_number(name)
    following = f"{name}@{last + 1}"
    try:
        store.require_place(following, free=True)
    except IntegrityError:
        # Unless another process has published it just now: then it is that version's folder.
        if registry.versions.last_number(name) == last:
            raise
    return following


def _require_same(found: Manifest, claimed: Manifest, folder: Path) -> None:
    """Raises IntegrityError, naming the file that differs."""
    entries = {entry.path: entry for entry in claimed.files}
    for entry in found.files:
        if entries.pop(entry.path, None) != entry:
            raise IntegrityError(
                f"the file is not the one that was published as sha256:{claimed.digest()[:12]}",
                where=str(folder / entry.path),
                hint="It was changed or damaged since: get it again.",
            )
    if entries:
        raise IntegrityError(
            f"the manifest lists {', '.join(sorted(entries))}, which no version of this hub has",
            where=str(folder),
        )
