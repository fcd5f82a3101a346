"""Which hub a command asks: the folder here, or the address that --hub or HUB_URL names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hub.local import LocalHub
    from hub.operations import Operations

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
    from hub.cli.apikey import key_from_environment
    from hub.remote import RemoteHub

    with RemoteHub(hub_url, key=key_from_environment()) as there:
        yield there


@contextmanager
def open_here() -> "Iterator[LocalHub]":
    """The hub in this folder (or HUB_HOME), for what can't be asked over HTTP."""
    from hub.cli.effect import ModelEffect
    from hub.home import Home
    from hub.local import LocalHub

    with LocalHub.open(Home.from_environment(), ModelEffect()) as here:
        yield here
