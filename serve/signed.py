"""Serving signed versions only: whose signature is wanted, and which versions have it.

Every answer is about the registry as it is now: the signatures are read each time, so one that
another process has just added counts. The arithmetic is done once for each signature, which is
then remembered together with the manifest that it fits. The files themselves are compared with
that manifest before each load (`hub.publish.servable_folder`).
"""

from collections.abc import Iterable, Sequence

from hub.errors import NotSigned
from hub.facts import SignatureFacts
from hub.keys import PublicKey
from hub.records import Version
from hub.registry import Registry
from hub.signing import require_signature


class SignedOnly:
    """With no keys every version will do."""

    def __init__(self, registry: Registry, keys: Sequence[PublicKey]) -> None:
        self._registry = registry
        self._keys = tuple(keys)
        self._fits: set[tuple[str, SignatureFacts]] = set()

    def require(self, version: Version) -> None:
        """Raises NotSigned unless one of the keys vouches for this version on its own base."""
        if self._keys:
            self._check(version, self._registry.signatures.of(version))

    def among(self, versions: Iterable[Version]) -> list[Version]:
        """Those of the versions that are signed by one of the keys."""
        if not self._keys:
            return list(versions)
        signatures = self._registry.signatures.all()
        return [v for v in versions if self._passes(v, signatures.get(v.id, ()))]

    def _passes(self, version: Version, signatures: Sequence[SignatureFacts]) -> bool:
        try:
            self._check(version, signatures)
        except NotSigned:
            return False
        return True

    def _check(self, version: Version, signatures: Sequence[SignatureFacts]) -> None:
        digest = version.manifest.digest()
        if any((digest, signature) in self._fits for signature in signatures):
            return
        if version.manifest.base.digest() != version.base_digest:
            raise NotSigned(f"what was signed of {version} belongs to another base than it is on")
        manifest = version.manifest.to_json()
        signature = require_signature(str(version), manifest, signatures, self._keys)
        self._fits.add((digest, signature))
