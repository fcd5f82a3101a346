"""`hub init`: make a hub."""

from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json
from hub.errors import IntegrityError

if TYPE_CHECKING:
    from hub.home import Home


def _require_no_stored_files(home: "Home") -> None:
    """A new registry would name none of them, and the next `hub gc` would delete them all."""
    if home.blobs.is_dir() and any(home.blobs.iterdir()):
        raise IntegrityError(
            "registry.db is gone, and the files that it named are still here",
            where=str(home.blobs),
            hint="`hub restore FILE` brings it back from a backup. To begin anew, move .hub away.",
        )


@click.command()
@click.option("--store", "place", metavar="PLACE",
              help="Keep blobs in another folder, s3://BUCKET/PREFIX or gs://….")  # fmt: skip
@json_option
def init(place: str | None, as_json: bool) -> None:
    """Make a hub in this folder (or HUB_HOME): registry.db and .hub/.

    Running it again changes nothing; with another --store, what is stored is copied there first.
    Credentials of a bucket come from where its tools read them (AWS_…, ~/.aws, GOOGLE_…).
    """
    from hub.home import Home
    from hub.registry import Registry
    from hub.relocate import choose_store, keep_blobs_in
    from hub.store import Store

    home = Home.from_environment()
    known = home.exists()
    if not known:
        _require_no_stored_files(home)
    # Before anything is made: a misspelt bucket leaves no hub behind.
    store = choose_store(home, place) if place else None
    with Registry.open(home) if known else Registry.create(home) as registry:
        before = Store.of(registry).blobs.url
        copied = keep_blobs_in(registry, store) if store else 0
        bases = [base.name for base in registry.bases.all()]
        blobs = Store.of(registry).blobs.url
    if as_json:
        facts = {"home": str(home.root), "created": not known, "store": blobs}
        print_json({**facts, "copied": copied, "bases": bases})
        return
    click.echo(f"{'already a hub' if known else 'made a hub'}: {home.root}")
    if place or blobs != str(home.blobs):
        note(f"Its blobs are in {blobs}.")
    if copied:
        note(f"{copied} files were copied there; they are also still in {before}.")
        hint("Restart `hub serve` if it runs: it still looks in the old place.")
    if not bases:
        hint("Next: `hub base starter` (a small model, built here) or `hub base add MODEL`.")
