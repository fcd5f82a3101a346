"""`hub keys`: API keys for a server, which wants one from everybody as soon as there is any."""

import re
from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, note, print_json, print_table
from hub.cli.where import hub_option, open_hub
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.facts import KeyFacts

_RATE = re.compile(r"([1-9][0-9]{0,6})/min")


@click.group()
def keys() -> None:
    """API keys: who may ask a server, for what.

    As long as there is none, a server listens on this machine only and answers everybody. With the
    first key it wants one from everybody.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["infer", "feedback", "admin"]),
    help="infer: ask, and read what may be asked (default). feedback: thumbs, edits, votes. admin: "
    "all of it, the registry's changes and keys too. Repeatable.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NS",
    help="Only adapters named NS/…, and the base; the rest is not there for it. Repeatable.",
)
@click.option("--rate", metavar="N/min", help="Requests a minute; further ones get 429.")
@click.option("--concurrent", type=int, metavar="N", help="Requests at the engine at once.")
@click.option("--expires", metavar="90d", help="After that (m, h, d, w) or at an ISO 8601 time.")
@hub_option
@json_option
def create(
    name: str,
    scopes: tuple[str, ...],
    namespaces: tuple[str, ...],
    rate: str | None,
    concurrent: int | None,
    expires: str | None,
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Make an API key and print it, once: only a hash of it is kept."""
    from hub.apikeys import parse_expiry
    from hub.facts import KeyWanted

    wanted = KeyWanted(
        name=name,
        scopes=scopes or ("infer",),
        namespaces=namespaces or None,
        rate_per_minute=_per_minute(rate),
        concurrent=concurrent,
        expires_at=parse_expiry(expires) if expires else None,
    )
    with open_hub(hub_url) as hub:
        known = [] if hub_url else hub.keys()
        made = hub.create_key(wanted)
    if as_json:
        print_json(made)
    else:
        click.echo(made.secret)
    note(f"{made.key.name} ({made.key.id}): {_may(made.key)}")
    hint("This is the only time that the key is shown. Clients send it as Authorization: Bearer …")
    hint("(openai: api_key=…), and `hub` reads it from HUB_KEY or the file HUB_KEY_FILE.")
    if not hub_url and not any(key.state == "living" for key in known):
        note("From now on every server of this hub wants a key from everybody, also on 127.0.0.1.")


@keys.command("ls")
@hub_option
@json_option
def list_keys(hub_url: str | None, as_json: bool) -> None:
    """List the keys: what each may do, until when, and which were revoked."""
    with open_hub(hub_url) as hub:
        found = hub.keys()
    if as_json:
        print_json(found)
        return
    if not found:
        note("No keys: servers of this hub listen on their own machine and answer everybody there.")
        hint("`hub keys create NAME` makes one.")
        return
    columns = ("NAME", "ID", "STATE", "SCOPES", "NAMESPACES", "LIMITS", "EXPIRES", "CREATED")
    print_table(columns, [_row(key) for key in found])


@keys.command()
@click.argument("name_or_id", metavar="NAME|ID")
@hub_option
@json_option
def revoke(name_or_id: str, hub_url: str | None, as_json: bool) -> None:
    """Revoke a key for good. Servers that run refuse it from their next request on."""
    with open_hub(hub_url) as hub:
        gone = hub.revoke_key(name_or_id)
        known = [] if hub_url else list(hub.keys())
    if as_json:
        print_json(gone)
    else:
        click.echo(f"revoked {gone.name} ({gone.id})")
    if not hub_url and not any(key.state == "living" for key in known):
        note("It was the last one. Servers refuse everybody now, those that are started anew too:")
        note("`hub keys create NAME` makes one, `hub serve --without-keys` opens this machine's.")


def _per_minute(rate: str | None) -> int | None:
    if rate is None:
        return None
    found = _RATE.fullmatch(rate.replace(" ", ""))
    if found is None:
        raise UsageError(f"--rate {rate[:40]!a} is not a rate", hint="Write it like 60/min.")
    return int(found[1])


def _may(key: "KeyFacts") -> str:
    where = "every adapter" if key.namespaces is None else _below(key)
    until = f", until {key.expires_at}" if key.expires_at else ""
    limits = f", {_limits(key)}" if _limits(key) else ""
    return f"{', '.join(key.scopes)}; {where}{limits}{until}"


def _below(key: "KeyFacts") -> str:
    return ", ".join(f"{namespace}/…" for namespace in key.namespaces or ())


def _limits(key: "KeyFacts") -> str:
    parts = []
    if key.rate_per_minute:
        parts.append(f"{key.rate_per_minute}/min")
    if key.concurrent:
        parts.append(f"{key.concurrent} at once")
    return ", ".join(parts)


def _row(key: "KeyFacts") -> tuple[object, ...]:
    state = f"revoked {(key.revoked_at or '')[:10]}" if key.state == "revoked" else key.state
    return (
        key.name,
        key.id,
        state,
        ", ".join(key.scopes),
        "all" if key.namespaces is None else _below(key),
        _limits(key),
        (key.expires_at or "never")[:16],
        key.created_at[:10],
    )
