"""`hub base`: the models that adapters are trained on."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Base
    from hub.registry import Registry

STARTER = "starter"


@click.group()
def base() -> None:
    """Add, build and list base models."""


@base.command()
@click.argument("model")
@click.option("--name", help="What to call it; default: MODEL, or the folder's name.")
@click.option("--revision", help="A commit or tag on the Hugging Face Hub.")
@json_option
def add(model: str, name: str | None, revision: str | None, as_json: bool) -> None:
    """Add MODEL: a folder, or a model's name on the Hugging Face Hub."""
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        _show(add_base(registry, model, name=name, revision=revision), as_json)


@base.command()
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Same seed, same model.")  # fmt: skip
@json_option
def starter(seed: int, as_json: bool) -> None:
    """Build a small chat model on this machine, from a generated corpus; nothing is downloaded.

    It takes one to two minutes on two CPU cores. If it is there already, it is kept.
    """
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment().require()
    with Registry.open(home) as registry:
        _show(build_starter_base(registry, home, seed), as_json)


@base.command()
@click.argument("name")
def use(name: str) -> None:
    """Make NAME the default base."""
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        registry.bases.set_default(name)
    click.echo(f"{name} is the default base")


@base.command("ls")
@json_option
def list_bases(as_json: bool) -> None:
    """List the bases."""
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        bases = registry.bases.all()
    if as_json:
        print_json([_facts(entry) for entry in bases])
    elif bases:
        rows = [[b.name, b.identity.revision[:19], b.digest[:12], b.source] for b in bases]
        print_table(["base", "revision", "digest", "source"], rows)
    else:
        hint("No base yet. Run `hub base starter` or `hub base add MODEL`.")


def add_base(
    registry: "Registry", model: str, *, name: str | None = None, revision: str | None = None
) -> "Base":
    """Find MODEL (a folder, or a name on the Hugging Face Hub), identify it and record it.

    Raises:
        BaseError: when it can't be found or is not a model that adapters can stand on.
    """
    from hub.basefiles import read_base

    folder = Path(model).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        identity, shapes = read_base(folder, folder.name if name is None else name)
    else:
        folder, commit = _download(model, revision)
        identity, shapes = read_base(folder, model if name is None else name, revision=commit)
    return registry.bases.add(str(folder), identity, shapes)


def find_or_add_base(registry: "Registry", name: str | None) -> "Base":
    """The base of that name (or the default one); a folder or Hub model that is new is added."""
    if name is None or any(entry.name == name for entry in registry.bases.all()):
        return registry.bases.get(name)
    if Path(name).expanduser().is_dir() or name.count("/") == 1:
        return add_base(registry, name)
    return registry.bases.get(name)


def build_starter_base(registry: "Registry", home: "Home", seed: int = 0) -> "Base":
    folder = home.bases / (STARTER if seed == 0 else f"{STARTER}-{seed}")
    if not folder.is_dir():
        from hub.cli.extras import require_extra

        require_extra("train", "torch", "transformers", "tokenizers")
        from train.starter.build import build_starter

        with progress_bar() as bar:
            task = bar.add_task("building the starter base", total=None)

            def show(step: int, total: int, loss: float) -> None:
                bar.update(task, completed=step, total=total, description=f"loss {loss:.2f}")

            report = build_starter(folder, seed=seed, progress=show)
        note(f"{report.parameters:,} parameters, {report.seconds:.0f} s")
    return add_base(registry, str(folder), name=folder.name)


def _download(model: str, revision: str | None) -> tuple[Path, str]:
    """A snapshot of a model on the Hugging Face Hub, and its commit."""
    from hub.cli.extras import require_extra
    from hub.errors import BaseError

    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise BaseError(
            f"'{model}' is no folder, and no model's name on the Hugging Face Hub",
            hint="Name a folder, or a model as OWNER/NAME: Qwen/Qwen3-0.6B.",
        )
    require_extra("train", "huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            model, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt",
                                                      "*.jinja", "tokenizer.model"]
        )  # fmt: skip
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseError(
            f"'{model}' could not be had from the Hugging Face Hub: {reason}",
            hint="Check its name and your network, or name a folder with the model in it.",
        ) from error
    folder = Path(found)
    return folder, folder.name


def _facts(entry: "Base") -> dict[str, object]:
    return {
        "name": entry.name,
        "source": entry.source,
        "revision": entry.identity.revision,
        "digest": entry.digest,
        "added_at": entry.added_at,
    }


def _show(entry: "Base", as_json: bool) -> None:
    if as_json:
        print_json(_facts(entry))
    else:
        click.echo(f"base {entry.name}  {entry.digest[:12]}  {entry.source}")
