"""What can be asked of this gateway, as OpenAI's model objects: loaded in the engine or not."""

from datetime import datetime
from typing import Any

from hub.records import Base, Version
from serve.caller import caller
from serve.resolver import Arm
from serve.signed import SignedOnly
from serve.views import Views

OWNER = "loom"


class Catalog:
    """The base, every adapter of it under its name (its production), every version, and those that
    a fine-tuning job made as OpenAI calls them.

    What is not served for want of a signature is not listed, nor what the caller may not use.
    """

    def __init__(self, views: Views, base: Base, signed: SignedOnly) -> None:
        self._views = views
        self._base = base
        self._signed = signed

    def models(self) -> list[dict[str, Any]]:
        found = [self.entry(self._base.name, Arm(self._base, None))]
        registry = self._views.of(caller.get())
        versions = self._signed.among(registry.versions.all(self._base))
        by_name = {str(version): version for version in versions}
        for summary in registry.summaries():
            number = summary.aliases.get("production")
            production = by_name.get(f"{summary.name}@{number}")
            # The base's served name wins where an adapter has the same.
            if production is not None and summary.name != self._base.name:
                found.append(self._version(summary.name, production))
        found += [self._version(str(version), version) for version in versions]
        for job in registry.jobs.named(self._base):
            made = by_name.get(f"{job.adapter}@{job.version}")
            if made is not None:
                found.append(self._version(job.name(), made))
        return found

    def entry(self, model: str, arm: Arm) -> dict[str, Any]:
        """`root` is the exact version that answers, `parent` the base that it stands on."""
        if arm.version is not None:
            return self._version(model, arm.version)
        return _model(model, self._base.added_at, self._base.name, None)

    def _version(self, model: str, version: Version) -> dict[str, Any]:
        return _model(model, version.published_at, str(version), self._base.name)


def _model(model: str, at: str, root: str, parent: str | None) -> dict[str, Any]:
    created = int(datetime.fromisoformat(at).timestamp())
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "root": root,
        "parent": parent,
    }
