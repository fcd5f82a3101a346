"""The ed25519 keys that people already have, read from their files.

Private keys: OpenSSH's files (`ssh-keygen -t ed25519`) and PEM (`openssl genpkey -algorithm
ed25519`), encrypted or not. Public keys: OpenSSH's lines as in `.pub`, authorized_keys and
allowed_signers, and PEM. Absent on purpose: other kinds of keys, certificates, agents, hardware
keys, and dates and revocations of keys: whoever lists a key trusts it, until it is taken out.

`cryptography` is an extra and is imported only where a key is used.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hub.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KIND = "ssh-ed25519"
_HEADER = len(_KIND).to_bytes(4, "big") + _KIND.encode() + (32).to_bytes(4, "big")
_LINE = re.compile(
    r"(?P<before>.*?)(?<!\S)(?P<kind>(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w.@-]+)\s+"
    r"(?P<blob>AAAA[\w+/=]+)\s*(?P<comment>.*)"
)
# OpenSSH would accept the key only under these conditions, and Loom doesn't look at them.
_CONDITIONS = re.compile(
    r"(?:^|[\s,@])(cert-authority|revoked|valid-after|valid-before|namespaces|expiry-time)\b"
)
_PUBLIC_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_MAKE_ONE = "Make a key with `ssh-keygen -t ed25519`; Loom signs with ed25519 only."


@dataclass(frozen=True)
class PublicKey:
    """`key_id` is SHA256:… as `ssh-keygen -l` prints it, `line` OpenSSH's without a comment, `raw`
    the key's 32 bytes. The comment is only for people."""

    key_id: str
    line: str
    raw: bytes = field(repr=False)
    comment: str = field(default="", compare=False)


@dataclass(frozen=True)
class SigningKey:
    public: PublicKey
    private: "Ed25519PrivateKey" = field(repr=False)


def read_public_keys(source: str | Path) -> tuple[PublicKey, ...]:
    """Every ed25519 key in a text, or in a file: a str is always the text, a Path always the file.

    Lines of other kinds of keys are passed over where there is one of ed25519.

    Raises:
        UsageError: when there is none, saying what is there instead; or when a line puts
            conditions on a key (dates, namespaces, certificates) that Loom would not keep.
    """
    where = str(source) if isinstance(source, Path) else "the public key"
    text = _read(source) if isinstance(source, Path) else source
    if "PRIVATE KEY-----" in text:
        raise UsageError(
            "this is a private key, and a public one is wanted",
            where=where,
            hint="Name the .pub file beside it, or make one: `ssh-keygen -y -f KEY > KEY.pub`.",
        )
    keys = [*_from_pem(text, where), *_from_lines(text, where)]
    if not keys:
        others = {match["kind"] for match in map(_LINE.fullmatch, text.splitlines()) if match}
        what = f"a key of the kind {', '.join(sorted(others))}" if others else "no public key"
        raise UsageError(f"{what}, not one of ed25519", where=where, hint=_MAKE_ONE)
    return tuple(dict.fromkeys(keys))


def read_signing_key(path: Path, passphrase: Callable[[], str]) -> SigningKey:
    """A private key from its file; `passphrase` is asked only when the file is encrypted.

    Raises:
        UsageError: when it is no ed25519 key, or the passphrase is wrong.
        MissingExtra: when `cryptography` is not installed.
    """
    ed25519 = cryptography_part("hazmat.primitives.asymmetric.ed25519")
    text = _read(path)
    if "PRIVATE KEY-----" not in text:
        public = _LINE.search(text) or "PUBLIC KEY-----" in text
        what = "this is a public key, and a private one is wanted" if public else "not a key file"
        beside = path.with_suffix("") if public and path.suffix == ".pub" else None
        name_it = f"Name the file beside it: {beside}." if beside else _MAKE_ONE
        raise UsageError(what, where=str(path), hint=name_it)
    private = _load_private(text.encode(), path, passphrase)
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        kind = type(private).__name__.lstrip("_").removesuffix("PrivateKey")
        raise UsageError(
            f"a key of the kind {kind}, not one of ed25519", where=str(path), hint=_MAKE_ONE
        )
    return SigningKey(_public_key(private.public_key().public_bytes_raw()), private)


def _load_private(data: bytes, path: Path, passphrase: Callable[[], str]) -> Any:
    serialization = cryptography_part("hazmat.primitives.serialization")
    ssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    unsupported = cryptography_part("exceptions").UnsupportedAlgorithm
    where = str(path)
    try:
        try:
            return load(data, password=None)
        except TypeError:  # what both say of an encrypted key
            given = passphrase().encode()
    except (ValueError, unsupported) as error:
        raise UsageError(f"not a readable key ({error})", where=where, hint=_MAKE_ONE) from error
    try:
        return load(data, password=given)
    except (ValueError, TypeError) as error:
        raise UsageError("the passphrase does not open this key", where=where) from error
    except unsupported as error:
        raise MissingExtra(
            f"this encrypted key can't be read ({error})",
            where=where,
            hint="Install what it needs: pip install 'lora-loom[sign]'.",
        ) from error


def _from_pem(text: str, where: str) -> Iterator[PublicKey]:
    for match in _PUBLIC_PEM.finditer(text):
        serialization = cryptography_part("hazmat.primitives.serialization")
        ed25519 = cryptography_part("hazmat.primitives.asymmetric.ed25519")
        unsupported = cryptography_part("exceptions").UnsupportedAlgorithm
        try:
            key = serialization.load_pem_public_key(match[0].encode())
        except (ValueError, unsupported) as error:
            raise UsageError(f"not a readable key ({error})", where=where) from error
        if isinstance(key, ed25519.Ed25519PublicKey):
            yield _public_key(key.public_bytes_raw())


def _from_lines(text: str, where: str) -> Iterator[PublicKey]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = None if line.lstrip().startswith("#") else _LINE.fullmatch(line)
        if match is None or match["kind"] != _KIND:
            continue
        at = f"{where}, line {number}"
        condition = _CONDITIONS.search(re.sub(r'"[^"]*"', '""', match["before"]))
        if condition:
            raise UsageError(
                f"this key is bound by '{condition[1]}', which Loom would not keep to",
                where=at,
                hint="List the key without it, if it is to be trusted.",
            )
        try:
            blob = base64.b64decode(match["blob"], validate=True)
        except binascii.Error as error:
            raise UsageError("the key is cut short or misspelt", where=at) from error
        if len(blob) != len(_HEADER) + 32 or not blob.startswith(_HEADER):
            raise UsageError("the key is cut short or misspelt", where=at)
        yield _public_key(blob[len(_HEADER) :], match["comment"])


def _public_key(raw: bytes, comment: str = "") -> PublicKey:
    blob = _HEADER + raw
    fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    line = f"{_KIND} {base64.b64encode(blob).decode()}"
    return PublicKey(f"SHA256:{fingerprint}", line, raw, comment)


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("not a key file", where=str(path), hint=_MAKE_ONE) from error
    except OSError as error:
        raise UsageError(f"the key can't be read ({error.strerror})", where=str(path)) from error


def cryptography_part(part: str) -> ModuleType:
    """Raises MissingExtra: a hub without signatures does without it."""
    try:
        return import_module(f"cryptography.{part}")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "signatures need cryptography, which the core leaves out",
            hint="Install it: pip install 'lora-loom[sign]'; [cpu] or [gpu] holds everything.",
        ) from error
