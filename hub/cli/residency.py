"""`hub residency`: what a running server's engines have loaded, and changes to that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import hint, json_option, print_json, print_table

if TYPE_CHECKING:
    from hub.address import Address

_DEFAULT_URL = "http://127.0.0.1:8000"

# Residency is a running server's: there is none in a folder, so this has a default of its own.
_server_option = click.option(
    "--hub",
    "hub_url",
    envvar="HUB_URL",
    default=_DEFAULT_URL,
    show_default=True,
    metavar="URL",
    help="The address that `hub serve` prints.  [env: HUB_URL]",
)


class _ListsByDefault(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_command = args and (not args[0].startswith("-") or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if is_command else ["ls", *args])


@click.group(cls=_ListsByDefault)
def residency() -> None:
    """What a running server has loaded, and what it keeps loaded.

    Without a command it lists.
    """


@residency.command("ls")
@_server_option
@json_option
def ls(hub_url: str, as_json: bool) -> None:
    """List engines, their slots, and the versions that are loaded."""
    with _server(hub_url) as server:
        found = server.ask("GET", "residency")
        if not isinstance(found, Mapping) or not {"engines", "pins"} <= found.keys():
            raise server.no_hub("its answer is not one of a hub")
    if as_json:
        print_json(found)
        return
    for number, engine in enumerate(found["engines"]):
        if number:
            click.echo()
        _print_engine(engine)
    for pin_ in found["pins"]:
        click.echo(f"pinned: {pin_['reference']} -> {pin_['version'] or 'nothing now'}")


@residency.command()
@click.argument("reference")
@_server_option
@json_option
def load(reference: str, hub_url: str, as_json: bool) -> None:
    """Load a version before somebody asks for it. What is idle may go for it."""
    done = _change("load", reference, hub_url)
    _report(done, f"{done['version']} is loaded in {_engines(done)}", as_json)


@residency.command()
@click.argument("reference")
@_server_option
@json_option
def unload(reference: str, hub_url: str, as_json: bool) -> None:
    """Unload a version everywhere, as soon as the requests that use it are done.

    New requests for it wait, and load it again.
    """
    done = _change("unload", reference, hub_url)
    said = f"unloaded from {_engines(done)}" if done["engines"] else "was not loaded"
    _report(done, f"{done['version']} {said}", as_json)


@residency.command()
@click.argument("reference")
@_server_option
@json_option
def pin(reference: str, hub_url: str, as_json: bool) -> None:
    """Load a version and keep it loaded; a name or an alias is followed when it is promoted.

    It holds as long as the server runs: `hub serve --pin` pins at every start.
    """
    done = _change("pin", reference, hub_url)
    _report(done, f"{reference} is pinned: {done['version']} in {_engines(done)}", as_json)


@residency.command()
@click.argument("reference")
@_server_option
@json_option
def unpin(reference: str, hub_url: str, as_json: bool) -> None:
    """Let a pinned version go when its place is wanted. REFERENCE is as it was pinned."""
    done = _change("unpin", reference, hub_url)
    _report(done, f"{reference} is no longer pinned", as_json)


@contextmanager
def _server(hub_url: str) -> "Iterator[Address]":
    from hub.address import Address
    from hub.cli.apikey import key_from_environment
    from hub.who import whoami

    address = Address(hub_url, who=whoami(), key=key_from_environment())
    try:
        yield address
    finally:
        address.close()


def _change(what: str, reference: str, hub_url: str) -> dict[str, Any]:
    from hub.names import parse_adapter_reference

    parse_adapter_reference(reference)
    with _server(hub_url) as server:
        # A load reads files, and an unload waits for the last stream.
        answer = server.ask("POST", f"residency/{what}", body={"adapter": reference}, patient=True)
        if not isinstance(answer, Mapping) or not {"version", "engines"} <= answer.keys():
            raise server.no_hub("its answer is not one of a hub")
        return dict(answer)


def _report(done: Mapping[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        click.echo(text)


def _engines(done: Mapping[str, Any]) -> str:
    return ", ".join(done["engines"]) or "no engine"


def _print_engine(engine: Mapping[str, Any]) -> None:
    where = f" at {engine['url']}" if engine["url"] else ""
    click.secho(f"{engine['name']}{where}: {engine['state']}", bold=True)
    if engine["loading"] == "lazy":
        hint("  It loads lazily: what it holds is its own affair.")
        return
    # Without them for a key that may not see every adapter.
    if engine["cpu_slots"] and engine["gpu_slots"]:
        click.echo(f"  loaded   {_slots(engine['cpu_slots'])}")
        click.echo(f"  running  {_slots(engine['gpu_slots'])}")
    if engine["foreign"]:
        click.echo(f"  others'  {', '.join(engine['foreign'])}")
    if not engine["residents"]:
        if engine["state"] == "ready":
            hint("  Nothing of this hub is loaded. The first request for an adapter loads it.")
        return
    rows = [
        [
            r["version"],
            r["state"],
            r["leases"] or "",
            "pinned" if r["pinned"] else "",
            (r["last_used"] or "")[:19].replace("T", " "),
        ]
        for r in engine["residents"]
    ]
    print_table(["version", "state", "in use>", "", "last used (UTC)"], rows)


def _slots(slots: Mapping[str, int]) -> str:
    waiting = f", {slots['waiting']} waiting" if slots["waiting"] else ""
    return f"{slots['used']} of {slots['limit']}{waiting}"
