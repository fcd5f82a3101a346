"""What differs between two versions: settings, data, results, circumstances and weights.

The registry's part is read from lineage, manifest and evaluations; the weights' part is
`hub.deltas`, on files that were compared with their hashes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.adapterfile import CONFIG, read_adapter
from hub.deltas import compare_updates, total_of
from hub.facts import Change, Diff, ModuleChange
from hub.names import parse_adapter_reference
from hub.origins import part, text
from hub.publish import servable_folder
from hub.records import Version
from hub.registry import Registry
from hub.store import Store

# What an adapter's config calls otherwise than a training config.
_SAID_TWICE = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_rslora": "rslora",
}


def diff(registry: Registry, store: Store, a: str, b: str) -> Diff:
    """Compare two versions, of one adapter or of two.

    Weights are compared where both stand on one base; else `note` says why not.

    Raises:
        UnknownReference, InvalidReference: when one of them is none.
        IntegrityError: when stored bytes are not what was published.
    """
    left, right = (registry.resolve(parse_adapter_reference(name)) for name in (a, b))
    folders = [servable_folder(store, version) for version in (left, right)]
    note = ""
    weights: tuple[ModuleChange, ...] = ()
    if left.base_digest != right.base_digest:
        note = (
            f"{left} stands on {left.base} and {right} on {right.base}:"
            " updates of different weights can't be compared"
        )
    elif left.digest == right.digest:
        note = f"{left} and {right} are the same bytes"
    else:
        weights = compare_updates(*(read_adapter(folder) for folder in folders))
    return Diff(
        a=str(left),
        b=str(right),
        config=_changes(_config(left, folders[0]), _config(right, folders[1])),
        data=_changes(_data(left), _data(right)),
        metrics=_changes(_metrics(registry, left), _metrics(registry, right)),
        other=_changes(*(_other(registry.fence.kept(version)) for version in (left, right))),
        weights=weights,
        total=total_of(weights) if weights else None,
        note=note,
    )


def _config(version: Version, folder: Path) -> dict[str, Any]:
    """The training config, and what the adapter's own config says besides."""
    trained = part(version.lineage, "config")
    adapter: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name in ("target_modules", "exclude_modules"):
        if isinstance(adapter.get(name), list):  # PEFT writes a set, in any order
            adapter[name] = sorted(adapter[name])
    named = {ours: adapter[theirs] for theirs, ours in _SAID_TWICE.items() if theirs in adapter}
    rest = {f"adapter_config.{name}": v for name, v in adapter.items() if name not in _SAID_TWICE}
    return {"method": version.lineage.get("method"), **named, **trained, **rest}


def _data(version: Version) -> dict[str, Any]:
    lint = part(version.lineage, "lint")
    return {**part(version.lineage, "dataset"), "lint": part(lint, "counts")}


def _metrics(registry: Registry, version: Version) -> dict[str, Any]:
    """What training measured, the effect, and the newest evaluation of each kind."""
    found = {
        **part(version.lineage, "metrics"),
        "effect": part(version.lineage, "effect"),
    }
    for kept in reversed(registry.ledger.evaluations(version)):
        entry = registry.fence.kept_evaluation(kept)
        kind = f"{entry.metric} on sha256:{entry.dataset_digest[:12]} against {entry.against}"
        score = entry.result.get("tuned")
        shown = f"{score:.1%} " if isinstance(score, float) else ""
        found[f"evaluation: {kind}"] = f"{shown}{entry.verdict}"
    return found


def _other(version: Version) -> dict[str, Any]:
    base = version.manifest.base
    return {
        "base": version.base,
        "base_revision": base.revision,
        "base_digest": version.base_digest,
        "size": version.size,
        "parent": text(version.lineage, "parent") or None,
        "git_commit": version.lineage.get("git_commit"),
        "libraries": part(version.lineage, "libraries"),
    }


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    left, right = dict(_flat(a)), dict(_flat(b))
    fields = [*left, *(field for field in right if field not in left)]
    return tuple(
        Change(field, left.get(field), right.get(field))
        for field in fields
        if left.get(field) != right.get(field)
    )


def _flat(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as dotted fields; lists are values."""
    found: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{name}.")
        else:
            found.append((f"{above}{name}", value))
    return found
