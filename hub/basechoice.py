"""Which base an adapter's folder stands on.

What another hub published names its base by content, so it is found under whatever name it has
here. A folder from elsewhere names one at most; what it names must be here, or be given.
"""

import json
import re
from pathlib import Path
from typing import Any

from hub.adapterfile import config_text
from hub.errors import AdapterRejected, UnknownBase
from hub.manifest import BaseIdentity, Manifest
from hub.records import Base
from hub.registry import Registry

_COMMIT = re.compile(r"[0-9a-f]{40}")
_STARTER = re.compile(r"starter(?:-(?P<seed>[0-9]+))?")


def base_for(
    registry: Registry, name: str, folder: Path, *, wanted: str | None, manifest: Manifest | None
) -> Base:
    """The base of an adapter's folder that is to be published as `name`.

    `wanted` is a base's name or digest. Without it the manifest's base is taken, by its content;
    without that the base that the adapter's config names, if it is here; then the one that `name`
    has already; then the default one.

    Raises:
        UnknownBase: when it is not in this hub, saying which it is and how to add it.
        AdapterRejected: when `wanted` is not the base of the manifest.
    """
    if manifest is not None:
        return _of_manifest(registry, name, wanted, manifest)
    if wanted is not None:
        return _find(registry, wanted)
    known = {base.name: base for base in registry.bases.all()}
    named = _named_by_config(folder)
    if named in known:
        return known[named]
    of_adapter = _base_of(registry, name)
    return known[of_adapter] if of_adapter else registry.bases.get()


def _base_of(registry: Registry, adapter: str) -> str | None:
    """The name of the base that an adapter stands on already."""
    return next((summary.base for summary in registry.summaries(only=adapter)), None)


def _of_manifest(registry: Registry, name: str, wanted: str | None, manifest: Manifest) -> Base:
    identity = manifest.base
    same = registry.bases.with_digest(identity.digest())
    if wanted is not None:
        base = _find(registry, wanted)
        if base.digest != identity.digest():
            raise AdapterRejected(
                f"it stands on '{identity.name}' ({_differences(base.identity, identity)}"
                f" differ), not on '{base.name}'",
                check="base",
                hint="Leave --base out: its base is found by content.",
            )
        return base
    if same:
        # One model may be here under several names; an adapter stays with the one that it has.
        for preferred in (_base_of(registry, name), identity.name):
            for base in same:
                if base.name == preferred:
                    return base
        return same[0]
    here = [base for base in registry.bases.all() if base.name == identity.name]
    other = f"; the '{identity.name}' here has another " if here else ""
    raise UnknownBase(
        f"it stands on the base '{identity.name}' (revision {identity.revision}), which is not in"
        f" this hub{other}{_differences(here[0].identity, identity) if here else ''}",
        hint=_how_to_add(identity, taken=bool(here)),
    )


def _find(registry: Registry, wanted: str) -> Base:
    """By name, or by digest. Raises UnknownBase."""
    by_digest = registry.bases.with_digest(wanted.removeprefix("sha256:"))
    return by_digest[0] if by_digest else registry.bases.get(wanted)


def _named_by_config(folder: Path) -> str:
    try:
        config: Any = json.loads(config_text(folder))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # The publish gate reads the config too, and says what is wrong with it.
        return ""


def _differences(a: BaseIdentity, b: BaseIdentity) -> str:
    parts = {
        "revision": a.revision != b.revision,
        "config": a.config_sha256 != b.config_sha256,
        "tokenizer": a.tokenizer_sha256 != b.tokenizer_sha256,
        "chat template": a.template_sha256 != b.template_sha256,
    }
    return ", ".join(part for part, differs in parts.items() if differs)


def _how_to_add(identity: BaseIdentity, *, taken: bool) -> str:
    renamed = " --name ANOTHER" if taken else ""
    if _COMMIT.fullmatch(identity.revision):
        return f"Add it: `hub base add {identity.name} --revision {identity.revision}{renamed}`."
    starter = _STARTER.fullmatch(identity.name)
    if starter and not taken:
        seed = f" --seed {starter['seed']}" if starter["seed"] else ""
        return f"Build it: `hub base starter{seed}`, or add the folder that it was built in."
    return f"Add the folder with that very model: `hub base add FOLDER{renamed}`."
