"""`hub promote|rollback|history|alias`: the movable names of versions, and every move they made."""

from typing import TYPE_CHECKING

import click

from hub.cli.output import hint, json_option, print_json, print_table
from hub.cli.where import hub_option, open_hub

if TYPE_CHECKING:
    from hub.records import AliasMove

_expect_option = click.option(
    "--expect",
    type=int,
    metavar="NUMBER",
    help="Only if the alias names this version now; 0: only if there is no such alias yet.",
)
_force_option = click.option(
    "--force", is_flag=True, help="Against the gate; it is recorded, with --why."
)
_why_option = click.option("--why", default="", help="The reason, kept in the history.")


@click.command()
@click.argument("reference")
@click.option("--to", "alias", default="production", show_default=True, help="The alias to move.")
@_expect_option
@_force_option
@_why_option
@hub_option
@json_option
def promote(
    reference: str,
    alias: str,
    expect: int | None,
    force: bool,
    why: str,
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Point an alias (production) at a version. A running server follows at its next request.

    Production, like every protected alias, wants an evaluation that says PASS (`hub eval`), or
    --force with --why.
    """
    with open_hub(hub_url) as hub:
        move = hub.promote(reference, alias, expect=expect, force=force, why=why)
    _report(_adapter(reference), move, as_json)


@click.command()
@click.argument("name")
@click.option("--to", "number", type=int, metavar="NUMBER", help="This version, not the last one.")
@_why_option
@hub_option
@json_option
def rollback(name: str, number: int | None, why: str, hub_url: str | None, as_json: bool) -> None:
    """Point production back at the version before the present one.

    With --to, at another version that production has named before. Deleted versions are skipped.
    """
    with open_hub(hub_url) as hub:
        move = hub.rollback(name, to=number, why=why)
    _report(name, move, as_json)


@click.command()
@click.argument("name")
@click.option("--alias", help="The moves of this alias only.")
@hub_option
@json_option
def history(name: str, alias: str | None, hub_url: str | None, as_json: bool) -> None:
    """List every move of an adapter's aliases, newest first."""
    with open_hub(hub_url) as hub:
        moves = list(hub.history(name, alias))
    if as_json:
        print_json(moves)
        return
    rows = [
        [
            m.at[:19].replace("T", " "),
            m.alias,
            m.action,
            f"{_number(m.from_number, m.from_deleted)} -> {_number(m.to_number, m.to_deleted)}",
            m.verdict + (" (forced)" if m.forced else ""),
            m.who,
            m.why,
        ]
        for m in moves
    ]
    print_table(["when (UTC)", "alias", "action", "version", "gate", "who", "why"], rows)


@click.group()
def alias() -> None:
    """Name versions, and protect names."""


@alias.command("set")
@click.argument("reference")
@click.argument("alias")
@_expect_option
@_force_option
@_why_option
@hub_option
@json_option
def set_(
    reference: str,
    alias: str,
    expect: int | None,
    force: bool,
    why: str,
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Point ALIAS at the version that REFERENCE means: `hub alias set support@3 candidate`.

    A protected alias wants the gate's PASS here too.
    """
    with open_hub(hub_url) as hub:
        move = hub.set_alias(reference, alias, expect=expect, force=force, why=why)
    _report(_adapter(reference), move, as_json)


@alias.command("rm")
@click.argument("reference", metavar="NAME@ALIAS")
@_why_option
@hub_option
@json_option
def rm(reference: str, why: str, hub_url: str | None, as_json: bool) -> None:
    """Take an alias away; the version and the history stay.

    Production can be moved but not removed. Another protected alias wants --why.
    """
    from hub.errors import InvalidReference
    from hub.names import Alias, parse_adapter_reference

    parsed = parse_adapter_reference(reference)
    if not isinstance(parsed.selector, Alias):
        raise InvalidReference(
            f"'{reference}' names no alias", hint=f"Write it like {parsed.name}@candidate."
        )
    with open_hub(hub_url) as hub:
        move = hub.remove_alias(parsed.name, parsed.selector.value, why=why)
    _report(parsed.name, move, as_json)


@alias.command("ls")
@click.argument("name", required=False)
@hub_option
@json_option
def ls(name: str | None, hub_url: str | None, as_json: bool) -> None:
    """List the aliases of one adapter, or of all."""
    with open_hub(hub_url) as hub:
        found = hub.aliases(name)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            ["adapter", "alias", "version>", ""],
            [[a.adapter, a.alias, a.number, "protected" if a.protected else ""] for a in found],
        )
    else:
        hint("There are no aliases yet. The first version of an adapter becomes production.")


@alias.command("protect")
@click.argument("alias")
@hub_option
@json_option
def protect(alias: str, hub_url: str | None, as_json: bool) -> None:
    """Let only versions with the gate's PASS take an alias of this name, in every adapter."""
    _protect(alias, True, hub_url, as_json)


@alias.command("unprotect")
@click.argument("alias")
@hub_option
@json_option
def unprotect(alias: str, hub_url: str | None, as_json: bool) -> None:
    """Protect an alias name no longer. Production stays protected."""
    _protect(alias, False, hub_url, as_json)


def _protect(alias: str, protected: bool, hub_url: str | None, as_json: bool) -> None:
    with open_hub(hub_url) as hub:
        names = hub.protect(alias, protected=protected)
    if as_json:
        print_json(names)
    else:
        click.echo(f"protected: {', '.join(names)}")


def _report(name: str, move: "AliasMove", as_json: bool) -> None:
    if as_json:
        print_json(move)
        return
    before = f" (was @{move.from_number})" if move.from_number else ""
    if move.to_number is None:
        click.echo(f"{name}@{move.alias} is removed{before}")
    else:
        click.echo(f"{name}@{move.alias} -> {name}@{move.to_number}{before}")


def _adapter(reference: str) -> str:
    return reference.partition("@")[0]


def _number(number: int | None, deleted: bool) -> str:
    if number is None:
        return "-"
    return f"{number} (deleted)" if deleted else str(number)
