"""`hub merge`: base and adapter as one model folder."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, percent, print_json, size
from hub.cli.where import hub_option, open_hub
from hub.errors import BaseError, Conflict, UnknownBase, UsageError

if TYPE_CHECKING:
    from hub.facts import VersionFacts
    from hub.records import Base


@click.command()
@click.argument("reference")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to make; it must not exist yet.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="What the weights are stored in; default: what the base's are.",
)
@hub_option
@json_option
def merge(reference: str, out: Path, dtype: str | None, hub_url: str | None, as_json: bool) -> None:
    """Write a version and its base as one model folder, for whatever serves models.

    Merged in float32, rounded once, loaded again from disk and compared with base + adapter; what
    differs too much is not kept. It takes four bytes of memory a parameter. With --hub the adapter
    is fetched from there, and the base is the one in the hub here.
    """
    from hub.cli.extras import require_extra

    require_extra("train", "torch", "transformers", "peft")
    parent = out.expanduser().parent.resolve()
    out = parent / out.name
    if out.exists() or out.is_symlink():
        raise Conflict("it is there already", where=str(out), hint="Name a folder that is not.")
    if not parent.is_dir():
        raise UsageError("there is no such folder", where=str(parent))
    with (
        open_hub(hub_url) as hub,
        tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.adapter-") as scratch,
    ):
        version = hub.show(reference)
        base = _base_of(version)
        adapter = Path(scratch) / "adapter"
        hub.fetch(f"{version.adapter}@sha256:{version.digest}", adapter)

        from train.runtime import quiet, ready

        ready(quantize=False)
        from hub.merge import merge as merge_
        from train.reporting.effect import PROMPTS

        with quiet():
            merged = merge_(
                version, adapter, Path(base.source), out,
                prompts=PROMPTS, dtype=dtype, progress=lambda step: note(f"{step} …"),
            )  # fmt: skip
    if as_json:
        print_json(merged)
        return
    click.echo(f"{out}  {merged.base} + {merged.version}, {merged.dtype}, {size(merged.size)}")
    click.echo(
        f"  largest difference in log-probability from base + adapter: {merged.largest:.2g}"
        f" ({merged.allowed:.2g} is allowed; the adapter itself makes {merged.effect:.2g})"
    )
    click.echo(f"  the same likeliest token at {percent(merged.agreement)} of {merged.positions}"
               " positions")  # fmt: skip
    if merged.untied:
        note("The adapter is on embeddings that the base shares with its output layer: the folder "
             "holds both apart.")  # fmt: skip
    hint(f"To train on it: `hub base add {out}`.")


def _base_of(version: "VersionFacts") -> "Base":
    """The version's base in the hub here, its folder found to be what was added.

    Raises:
        UnknownBase: when it is not here.
        BaseError: when its files have changed.
    """
    from hub.basefiles import changed
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        base = next((b for b in registry.bases.all() if b.digest == version.base.digest), None)
    if base is None:
        raise UnknownBase(
            f"the base of {version.version}, '{version.base.name}' ({version.base.digest[:12]}),"
            " is not in the hub here",
            hint=f"Add it: `hub base add {version.base.name} --revision {version.base.revision}`.",
        )
    if parts := changed(base):
        raise BaseError(
            f"the base '{base.name}' is not what was added: its {parts} changed",
            where=base.source,
            hint="Restore them, or add the folder as a new base under another name.",
        )
    return base
