"""Publishing: a PEFT folder becomes an immutable version, or nothing at all.

The order makes it so: the files are checked, then stored as blobs (unreachable until a row names
them), then one transaction adds the version, then its folder is made, which can be made again at
any time. A crash in between leaves blobs that `hub gc` finds, never half a version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.card import render_card
from hub.errors import AdapterRejected
from hub.inspect import FILES, inspect_adapter
from hub.manifest import Manifest, describe
from hub.records import Base, Dataset, Version
from hub.registry import Registry
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
    run_id: str | None = None,
    dataset: Dataset | None = None,
    parent: Version | None = None,
) -> tuple[Version, bool]:
    """Check a folder and add it as the next version of `name`; tells whether it is new.

    Raises:
        AdapterRejected: when a check refuses it; nothing is left behind.
    """
    adapter = inspect_adapter(folder, base)
    manifest = Manifest(base.identity, tuple(describe(folder / file, file) for file in FILES))
    known = registry.versions.find(name, manifest.digest())
    if known is not None:
        return known, False
    effect = measure_effect(base.source, folder)
    if not effect.changes:
        raise AdapterRejected(
            "the model answers the same with it as without it"
            f" (largest difference in log-probability {effect.largest:.1e})",
            check="effect",
            where=str(folder),
            hint="Train longer or with a higher learning rate.",
        )
    for entry in manifest.files:
        store.put(folder / entry.path, entry)
    version, created = registry.versions.add(
        name,
        manifest,
        rank=adapter.rank,
        lineage={**lineage, "effect": {"largest": effect.largest, "divergence": effect.divergence}},
        run_id=run_id,
        dataset_id=dataset.id if dataset else None,
        parent=parent,
    )
    servable_folder(store, version)
    return version, created


def servable_folder(store: Store, version: Version) -> Path:
    """The version's folder, made if need be and compared with its hashes.

    Raises:
        IntegrityError: when stored bytes are not what was published.
    """
    card = render_card(version.adapter, version.number, version.manifest, version.lineage)
    folder = store.materialise(version, card)
    store.verify(version)
    return folder
