"""Signatures: what they are of, which keys make them, and what they do not vouch for."""

import base64
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from hub.errors import BadSignature, NotSigned, UsageError
from hub.home import Home
from hub.keys import PublicKey, read_public_keys, read_signing_key
from hub.manifest import FileEntry, Manifest
from hub.records import Base, Version
from hub.registry import Registry
from hub.signing import (
    check_signature,
    read_detached,
    require_signature,
    sign_manifest,
    write_detached,
)
from tests.command import Hub

PASSPHRASE = "open sesame"
OPENSSH, PEM = PrivateFormat.OpenSSH, PrivateFormat.PKCS8


def never() -> str:
    raise AssertionError("no passphrase should be asked for")


def write_key(
    path: Path,
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: PrivateFormat = OPENSSH,
    passphrase: str = "",
) -> Path:
    """The private key's file, and beside it the public one in the same manner."""
    lock: KeySerializationEncryption = NoEncryption()
    if passphrase:
        lock = BestAvailableEncryption(passphrase.encode())
    path.write_bytes(key.private_bytes(Encoding.PEM, form, lock))
    if form is OPENSSH:
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        Path(f"{path}.pub").write_bytes(public + b" ann@laptop\n")
    else:
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        Path(f"{path}.pub").write_bytes(public)
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_key(tmp_path / "id_ed25519", ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def hub(home: Home, registry: Registry) -> Hub:
    return Hub(home.root)


@pytest.fixture
def version(registry: Registry, base: Base) -> Version:
    return add(registry, base, "support", "one content")


def add(registry: Registry, base: Base, name: str, content: str) -> Version:
    """A version in the registry alone: signatures are of its manifest."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    manifest = Manifest(base.identity, (FileEntry("adapter_model.safetensors", digest, 9),))
    return registry.versions.add(name, manifest, rank=4, lineage={})[0]


def test_anybody_can_check_a_signature_without_loom(
    hub: Hub, version: Version, key_file: Path, tmp_path: Path
) -> None:
    """From the documented description and the detached file alone: one fixed line, the manifest,
    Ed25519, and the manifest's sha256 is the version's digest."""
    hub.ok("sign", "support@1", "--key", key_file, "--out", tmp_path / "support.sig.json")
    file = json.loads((tmp_path / "support.sig.json").read_text())
    made = file["signature"]
    key = load_ssh_public_key(made["public_key"].encode())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    message = b"Loom adapter manifest signature v1\n" + file["manifest"].encode()
    key.verify(base64.b64decode(made["signature"]), message)
    assert file["format"] == "loom-signature/1"
    assert file["digest"] == version.digest
    assert file["manifest"] == version.manifest.to_json()
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(made["signature"]), file["manifest"].encode())


def test_the_documented_check_does_what_it_says(
    hub: Hub, version: Version, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python in docs/signing.md, run as it stands, passes the signed files and refuses others
    and other keys."""
    page = Path(__file__).parents[2] / "docs" / "signing.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    hub.ok("sign", "support@1", "--key", key_file, "--out", tmp_path / "support.sig.json")
    Path(f"{key_file}.pub").rename(tmp_path / "ann.pub")
    (tmp_path / "support").mkdir()
    (tmp_path / "support" / "adapter_model.safetensors").write_text("one content")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    (tmp_path / "support" / "adapter_model.safetensors").write_text("other content")
    with pytest.raises(AssertionError, match="is not what was signed"):
        exec(code, {})
    (tmp_path / "ann.pub").write_text(public_line()[0])
    with pytest.raises(InvalidSignature):
        exec(code, {})


@pytest.mark.parametrize("form", [OPENSSH, PEM])
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_openssh_and_pem_keys_sign_locked_or_not(
    tmp_path: Path, form: PrivateFormat, passphrase: str
) -> None:
    """Both kinds of files, with and without a passphrase; the public file beside it checks."""
    path = write_key(tmp_path / "key", ed25519.Ed25519PrivateKey.generate(), form, passphrase)
    key = read_signing_key(path, (lambda: passphrase) if passphrase else never)
    (public,) = read_public_keys(Path(f"{path}.pub"))
    assert key.public == public
    signature = sign_manifest('{"a":1}', key, signed_by="ann")
    assert check_signature('{"a":1}', signature, [public]) == public
    if passphrase:
        with pytest.raises(UsageError, match="passphrase does not open"):
            read_signing_key(path, lambda: "wrong")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_the_key_id_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    """A key made by ssh-keygen, encrypted as it does, is read, and named as it names it."""
    path = tmp_path / "id_ed25519"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-C", "ann@laptop", "-f", path]
    subprocess.run(make, check=True)
    said = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True)
    key = read_signing_key(path, lambda: PASSPHRASE)
    assert key.public.key_id == said.stdout.split()[1]
    assert read_public_keys(Path(f"{path}.pub"))[0].comment == "ann@laptop"


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())],
    ids=["rsa", "ecdsa"],
)
@pytest.mark.parametrize("form", [OPENSSH, PEM])
def test_keys_of_other_kinds_are_refused_with_how_to_make_one(
    tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, form: PrivateFormat
) -> None:
    """Private or public, in OpenSSH's form or PEM: refused, and `ssh-keygen -t ed25519` named."""
    path = write_key(tmp_path / "key", key, form)
    with pytest.raises(UsageError, match="not one of ed25519") as private:
        read_signing_key(path, never)
    with pytest.raises(UsageError, match="not one of ed25519") as public:
        read_public_keys(Path(f"{path}.pub"))
    for refused in (private, public):
        assert "ssh-keygen -t ed25519" in (refused.value.hint or "")


def test_the_halves_of_a_pair_are_told_apart(tmp_path: Path, key_file: Path) -> None:
    """A public key where a private one is wanted, and the other way round, says which is which."""
    with pytest.raises(UsageError, match="public key, and a private one is wanted") as mixed:
        read_signing_key(Path(f"{key_file}.pub"), never)
    assert str(key_file) in (mixed.value.hint or "")
    with pytest.raises(UsageError, match="private key, and a public one is wanted"):
        read_public_keys(key_file)


@pytest.mark.parametrize("text", ["", "hello\n", "ssh-ed25519 AAAA not a key\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    """So that nobody serves with an empty list of trusted keys."""
    (tmp_path / "text").write_text(text)
    with pytest.raises(UsageError):
        read_public_keys(tmp_path / "text")


def public_line(comment: str = "") -> tuple[str, PublicKey]:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{line} {comment}".strip(), read_public_keys(line)[0]


def test_a_file_may_list_several_keys_among_others(tmp_path: Path) -> None:
    """authorized_keys and allowed_signers as they are: comments, principals and options around
    the keys, RSA lines passed over, one key twice is one."""
    (one, first), (two, second), (three, third) = (public_line("x y") for _ in range(3))
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    rsa_line = rsa_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    lines = [
        "# the team",
        "",
        one,
        f"ann@example.org,bob@example.org {two}",
        f'command="ssh-ed25519 is a word here",no-pty {three}',
        rsa_line,
        f"# {public_line()[0]}",
        one,
    ]
    (tmp_path / "signers").write_text("\n".join(lines))
    assert read_public_keys(tmp_path / "signers") == (first, second, third)


@pytest.mark.parametrize(
    "before",
    [
        'ann@example.org valid-before="20200101"',
        'ann@example.org namespaces="git"',
        "*@example.org cert-authority",
        'expiry-time="20200101"',
        "@revoked *",
    ],
)
def test_a_key_under_conditions_is_refused_not_trusted_without_them(before: str) -> None:
    """Dates, namespaces and certificate authorities are not kept, so such a line is an error."""
    line, _ = public_line()
    with pytest.raises(UsageError, match="line 1: this key is bound by"):
        read_public_keys(f"{before} {line}")


def test_a_str_is_never_taken_for_a_path(key_file: Path) -> None:
    """What arrives over HTTP as a key's text can't name a file on the hub's machine."""
    with pytest.raises(UsageError):
        read_public_keys(f"{key_file}.pub")


def test_signing_keeps_one_signature_a_key_and_show_lists_them(
    hub: Hub, version: Version, key_file: Path, tmp_path: Path
) -> None:
    """Twice with one key is once, with the first time kept; a second key adds a second one."""
    first = hub.ok("sign", "support", "--key", key_file, "--json").json()
    again = hub.ok("sign", "support", "--key", key_file, "--json").json()
    assert again == first
    locked = write_key(
        tmp_path / "other", ed25519.Ed25519PrivateKey.generate(), passphrase=PASSPHRASE
    )
    second = hub.ok("sign", "support@1", "--key", locked, "--json", stdin=f"{PASSPHRASE}\n").json()
    shown = hub.ok("show", "support", "--json").json()["signatures"]
    assert [s["key_id"] for s in shown] == [
        first["signature"]["key_id"],
        second["signature"]["key_id"],
    ]
    assert shown[0] == first["signature"]
    text = hub.ok("show", "support").stdout
    assert first["signature"]["key_id"] in text
    assert first["signature"]["signed_by"] in text


def test_a_signature_vouches_for_the_bytes_not_for_the_name(
    hub: Hub, registry: Registry, base: Base, version: Version, key_file: Path, tmp_path: Path
) -> None:
    """A detached signature fits the same bytes under another name, and no other bytes."""
    add(registry, base, "billing", "one content")
    add(registry, base, "support", "another content")
    hub.ok("sign", "support@1", "--key", key_file, "--out", tmp_path / "sig.json")
    hub.ok("sign", "billing@1", "--add", tmp_path / "sig.json")
    refused = hub("sign", "support@2", "--add", tmp_path / "sig.json")
    assert refused.status == 1
    assert "is not of this manifest" in refused.stderr
    assert registry.signatures.of(registry.versions.get("support", 2)) == ()
    assert len(registry.signatures.of(registry.versions.get("billing", 1))) == 1


def test_what_does_not_fit_is_not_kept(
    registry: Registry, version: Version, key_file: Path
) -> None:
    """A flipped bit, another key's name or line, or a foreign purpose: refused, nothing kept."""
    manifest = version.manifest.to_json()
    key = read_signing_key(key_file, never)
    good = sign_manifest(manifest, key, signed_by="ann")
    line, stranger = public_line()
    raw = bytearray(base64.b64decode(good.signature))
    raw[0] ^= 1
    bare = base64.b64encode(key.private.sign(manifest.encode())).decode()
    for bad in (
        replace(good, signature=base64.b64encode(raw).decode()),
        replace(good, signature=good.signature[:-8]),
        replace(good, signature="not base64!"),
        replace(good, signature=bare),
        replace(good, public_key=line),
        replace(good, key_id=stranger.key_id),
        replace(good, public_key=line, key_id=stranger.key_id),
        replace(good, public_key="rubbish"),
        replace(good, signed_by="ann\x1b[2J"),
    ):
        with pytest.raises(BadSignature):
            registry.signatures.add(version, bad)
    assert registry.signatures.of(version) == ()
    registry.signatures.add(version, replace(good, public_key=f"{good.public_key} ann@laptop"))
    assert registry.signatures.of(version) == (good,)


def test_one_trusted_signature_among_others_is_enough(key_file: Path) -> None:
    """Strangers' and broken signatures neither help nor harm; none at all says so."""
    key = read_signing_key(key_file, never)
    good = sign_manifest("{}", key, signed_by="ann")
    _, stranger = public_line()
    broken = replace(good, signature="AAAA")
    assert require_signature("x@1", "{}", [broken, good], [stranger, key.public]) == good
    with pytest.raises(NotSigned, match="not by a trusted key"):
        require_signature("x@1", "{}", [good], [stranger])
    with pytest.raises(NotSigned, match="it has no signature") as none:
        require_signature("x@1", "{}", [], [stranger])
    assert "hub sign x@1" in (none.value.hint or "")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "x"}', '{"format": "loom-signature/1"}']
)
def test_files_that_are_no_signature_are_refused(tmp_path: Path, text: str) -> None:
    """Not JSON, or nothing of ours."""
    (tmp_path / "sig.json").write_text(text)
    with pytest.raises(BadSignature):
        read_detached(tmp_path / "sig.json")


def test_a_detached_file_that_was_changed_is_refused(tmp_path: Path, key_file: Path) -> None:
    """The manifest in it must be the one that was signed."""
    signature = sign_manifest('{"a":1}', read_signing_key(key_file, never), signed_by="ann")
    write_detached(tmp_path / "sig.json", '{"a":1}', signature)
    assert read_detached(tmp_path / "sig.json") == signature
    text = (tmp_path / "sig.json").read_text()
    (tmp_path / "sig.json").write_text(text.replace('{\\"a\\":1}', '{\\"a\\":2}'))
    with pytest.raises(BadSignature, match="is not of this manifest"):
        read_detached(tmp_path / "sig.json")


def test_bad_commands_say_what_is_wrong_and_leave_nothing(
    hub: Hub, registry: Registry, version: Version, key_file: Path, tmp_path: Path
) -> None:
    """Neither or both of --key and --add, a wrong passphrase, a file that is there."""
    locked = write_key(
        tmp_path / "locked", ed25519.Ed25519PrivateKey.generate(), passphrase=PASSPHRASE
    )
    assert hub("sign", "support").status == 2
    assert hub("sign", "support", "--key", key_file, "--add", key_file).status == 2
    wrong = hub("sign", "support", "--key", locked, stdin="wrong\n")
    assert (wrong.status, "passphrase does not open" in wrong.stderr) == (2, True)
    assert hub("sign", "support", "--key", key_file, "--out", key_file).status == 1
    assert hub("sign", "nothing", "--key", key_file).status == 1
    assert registry.signatures.all() == {}


def test_a_detached_file_whose_digest_is_anothers_is_refused(
    tmp_path: Path, key_file: Path
) -> None:
    """Its `digest` is what people compare; it is that of the manifest beside it or nothing."""
    signature = sign_manifest('{"a":1}', read_signing_key(key_file, never), signed_by="ann")
    write_detached(tmp_path / "sig.json", '{"a":1}', signature)
    document = json.loads((tmp_path / "sig.json").read_text())
    (tmp_path / "sig.json").write_text(json.dumps({**document, "digest": "0" * 64}))
    with pytest.raises(BadSignature, match="its digest is not its manifest's"):
        read_detached(tmp_path / "sig.json")
    (tmp_path / "sig.json").write_text("[" * 100_000)
    with pytest.raises(BadSignature, match="not a signature file"):
        read_detached(tmp_path / "sig.json")
