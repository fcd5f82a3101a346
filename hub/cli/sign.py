"""`hub sign`: detached signatures of versions, made where the key is."""

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json
from hub.cli.where import hub_option, open_hub
from hub.errors import Conflict, IntegrityError, UsageError

if TYPE_CHECKING:
    from hub.facts import SignatureFacts


@click.command()
@click.argument("reference")
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An ed25519 private key: OpenSSH's (~/.ssh/id_ed25519) or PEM. It stays here.",
)
@click.option(
    "--add",
    "detached",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep a signature that was made elsewhere (with --out) instead of making one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the signature to a file of its own, too.",
)
@hub_option
@json_option
def sign(
    reference: str,
    key_file: Path | None,
    detached: Path | None,
    out: Path | None,
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Sign a version: vouch for its bytes and the base that they belong to.

    The signature is of the version's digest, not of its name, number or aliases: the same bytes
    published elsewhere carry it too. `hub verify REF --key PUBLIC_KEY` checks it, and
    `hub serve --signed-by PUBLIC_KEY` serves nothing else.
    """
    from hub.signing import write_detached

    if (key_file is None) == (detached is None):
        raise UsageError("give either --key, to sign, or --add, to keep a signature made elsewhere")
    if out is not None and out.exists():
        raise Conflict("there is a file of this name", where=str(out))
    with open_hub(hub_url) as hub:
        before = hub.show(reference)
        exact = f"{before.adapter}@sha256:{before.digest}"
        manifest = hub.manifest(exact)
        if hashlib.sha256(manifest.encode()).hexdigest() != before.digest:
            raise IntegrityError(f"the manifest of {before.version} does not fit its digest")
        made = _signature(manifest, key_file, detached)
        after = hub.sign(exact, made)
        # A key's first signature is the one that stays.
        signature = next(s for s in after.signatures if s.key_id == made.key_id)
        if out is not None:
            write_detached(out, manifest, signature)
    if as_json:
        print_json({"version": after.version, "digest": after.digest, "signature": signature})
        return
    click.echo(f"{after.version}  sha256:{after.digest[:12]}  signed by {signature.key_id}")
    if any(known.key_id == signature.key_id for known in before.signatures):
        note("It had this key's signature before; nothing changed.")
    if out is not None:
        note(f"The signature is in {out}, too.")
    hint(f"Check it: `hub verify {after.version} --key PUBLIC_KEY_FILE`.")


def _signature(manifest: str, key_file: Path | None, detached: Path | None) -> "SignatureFacts":
    from hub.keys import read_signing_key
    from hub.signing import read_detached, sign_manifest
    from hub.who import whoami

    if detached is not None:
        return read_detached(detached)
    assert key_file is not None
    key = read_signing_key(key_file, lambda: _passphrase(key_file))
    return sign_manifest(manifest, key, signed_by=whoami())


def _passphrase(key_file: Path) -> str:
    """Asked at the terminal; a script gives it as the first line of stdin."""
    if sys.stdin.isatty():
        return str(click.prompt(f"passphrase of {key_file}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")
