"""Detached ed25519 signatures of versions.

What is signed is PREFIX followed by the version's canonical manifest in UTF-8, the very text whose
sha256 is the version's digest. The manifest lists every file with its sha256 and names the base by
its hashes, so a signature vouches for the bytes and for the base that they belong to. It does not
vouch for a name, a number, an alias or a lineage: the same bytes published as `billing@7` carry the
same signature. `signed_by` and `signed_at` are what the signer said, and are not signed either.

Anybody can check one without Loom: `signature` is base64 of the 64 bytes of RFC 8032's Ed25519
over those bytes, and `public_key` is OpenSSH's line. `hub.keys` reads the keys. A detached file
holds all of it as JSON: `format` ("loom-signature/1"), `digest`, `manifest` (that text) and
`signature` (a SignatureFacts).
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub.clock import now
from hub.errors import BadSignature, Conflict, HubError, NotSigned, UsageError
from hub.facts import SignatureFacts
from hub.keys import PublicKey, SigningKey, cryptography_part, read_public_keys

__all__ = [
    "FORMAT",
    "PREFIX",
    "PublicKey",
    "SigningKey",
    "check_signature",
    "read_detached",
    "read_public_keys",
    "require_signature",
    "sign_manifest",
    "signed_bytes",
    "write_detached",
]

# No other protocol's message begins like this, so no signature made for one fits the other.
PREFIX = b"Loom adapter manifest signature v1\n"
FORMAT = "loom-signature/1"


def signed_bytes(manifest_json: str) -> bytes:
    """What a signature is of."""
    return PREFIX + manifest_json.encode()


def sign_manifest(manifest_json: str, key: SigningKey, *, signed_by: str) -> SignatureFacts:
    return SignatureFacts(
        key_id=key.public.key_id,
        public_key=key.public.line,
        signature=base64.b64encode(key.private.sign(signed_bytes(manifest_json))).decode(),
        signed_by=signed_by,
        signed_at=now(),
    )


def check_signature(
    manifest_json: str, signature: SignatureFacts, keys: Sequence[PublicKey] | None = None
) -> PublicKey:
    """The key whose signature of the manifest this is.

    `keys` are those that are trusted; with None the signature's own key will do, which shows that
    the signature fits the manifest, and not who made it.

    Raises:
        BadSignature: when it does not fit, or is by another key.
        MissingExtra: when `cryptography` is not installed.
    """
    key = _own_key(signature)
    if keys is not None and key not in keys:
        raise BadSignature(f"the signature is by {key.key_id}, not by a trusted key")
    ed25519 = cryptography_part("hazmat.primitives.asymmetric.ed25519")
    try:
        made = base64.b64decode(signature.signature, validate=True)
        ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(
            made, signed_bytes(manifest_json)
        )
    except (ValueError, cryptography_part("exceptions").InvalidSignature) as error:
        raise BadSignature(
            f"the signature by {key.key_id} is not of this manifest",
            hint="Sign the version again: `hub sign REF --key FILE`.",
        ) from error
    return key


def require_signature(
    version: str,
    manifest_json: str,
    signatures: Sequence[SignatureFacts],
    keys: Sequence[PublicKey],
) -> SignatureFacts:
    """The first of a version's signatures that is valid and by one of the keys.

    Raises:
        NotSigned: saying which signatures there are.
        MissingExtra: when `cryptography` is not installed.
    """
    reasons = []
    for signature in signatures:
        try:
            check_signature(manifest_json, signature, keys)
        except BadSignature as error:
            reasons.append(error.message)
        else:
            return signature
    why = "; ".join(reasons) or "it has no signature"
    wanted = "the trusted key" if len(keys) == 1 else f"any of the {len(keys)} trusted keys"
    raise NotSigned(
        f"{version} is not signed by {wanted}: {why}",
        hint=f"Sign it: `hub sign {version} --key PRIVATE_KEY_FILE`.",
    )


def write_detached(path: Path, manifest_json: str, signature: SignatureFacts) -> None:
    """Raises Conflict when the file is there, HubError when it can't be written."""
    document = {
        "format": FORMAT,
        "digest": hashlib.sha256(manifest_json.encode()).hexdigest(),
        "manifest": manifest_json,
        "signature": asdict(signature),
    }
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except FileExistsError as error:
        raise Conflict("there is a file of this name", where=str(path)) from error
    except OSError as error:
        raise HubError(f"can't be written ({error.strerror})", where=str(path)) from error


def read_detached(path: Path) -> SignatureFacts:
    """The signature in a detached file, found to fit the manifest beside it.

    Raises:
        BadSignature: when it does not, or the file is something else.
        HubError: when it can't be read.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise BadSignature(f"the format is not {FORMAT}", where=str(path))
        signature = SignatureFacts(**{key: str(v) for key, v in document["signature"].items()})
        manifest = str(document["manifest"])
        check_signature(manifest, signature)
        if document["digest"] != hashlib.sha256(manifest.encode()).hexdigest():
            raise BadSignature("its digest is not its manifest's", where=str(path))
    except OSError as error:
        raise HubError(f"can't be read ({error.strerror})", where=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadSignature("not a signature file of Loom's", where=str(path)) from error
    return signature


def _own_key(signature: SignatureFacts) -> PublicKey:
    """Raises BadSignature when the record does not agree with itself."""
    try:
        keys = read_public_keys(signature.public_key)
    except UsageError as error:
        raise BadSignature(f"the signature's own key can't be read: {error}") from error
    if len(keys) != 1 or keys[0].key_id != signature.key_id:
        raise BadSignature("the signature's key is not the one that it names")
    return keys[0]
