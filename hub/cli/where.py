"""Which hub a command asks: the folder here, or the address that --hub or HUB_URL names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hub.local import LocalHub
    from hub.operations import Operations
    from hub.publish import Effect

hub_option = click.option(
    "--hub",
    "hub_url",
    envvar="HUB_URL",
    metavar="URL",
    help="A hub's address instead of the folder here (`hub serve` there).  [env: HUB_URL]",
)


@contextmanager
def open_hub(hub_url: str | None) -> "Iterator[Operations]":
    """The hub that a command asks, closed after."""
    if hub_url is None:
        with open_here() as here:
            yield here
        return
    raise NotImplementedError


@contextmanager
def open_here() -> "Iterator[LocalHub]":
    """The hub in this folder (or HUB_HOME), for what can't be asked over HTTP."""
    from hub.home import Home
    from hub.local import LocalHub

    with LocalHub.open(Home.from_environment(), measure_effect) as here:
        yield here


def measure_effect(base_source: str, folder: Path) -> "Effect":
    """Run the base model with and without the adapter, in this process. Raises MissingExtra."""
    from hub.cli.extras import require_extra
    from hub.publish import Effect

    require_extra("train", "torch", "transformers", "peft")
    from train.runtime import ready

    ready(quantize=False)
    from train.effect import measure_effect

    report = measure_effect(base_source, folder)
    return Effect(report.changes, report.max_change, report.mean_kl)
