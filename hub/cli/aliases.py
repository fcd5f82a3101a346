"""`hub promote|rollback|history`: the movable names of versions, and every move that they made."""

import click

from hub.cli.output import json_option, print_json, print_table
from hub.errors import Conflict, UsageError


@click.command()
@click.argument("reference")
@click.option("--to", "alias", default="production", show_default=True, help="The alias to move.")
@click.option("--expect", type=int, metavar="NUMBER", help="Only if the alias names this now.")
@click.option("--force", is_flag=True, help="Promote against the gate; it is recorded.")
@click.option("--why", default="", help="The reason, kept in the history.")
@json_option
def promote(
    reference: str, alias: str, expect: int | None, force: bool, why: str, as_json: bool
) -> None:
    """Point an alias (production) at a version. A running server follows at its next request.

    Production wants an evaluation that says PASS (`hub eval`), or --force with --why.
    """
    from hub.evaluation.gate import require_pass
    from hub.home import Home
    from hub.names import PRODUCTION, parse_adapter_reference, parse_alias
    from hub.registry import Registry

    parse_alias(alias)
    if force and not why.strip():
        raise UsageError("--force wants a reason", hint="Add --why 'REASON'.")
    with Registry.open(Home.from_environment()) as registry:
        version = registry.resolve(parse_adapter_reference(reference))
        if registry.aliases.of(version.adapter).get(alias) == version.number:
            raise Conflict(f"{version.adapter}@{alias} is {version} already")
        evaluations = registry.ledger.evaluations(version)
        if alias == PRODUCTION and not force:
            require_pass(version, evaluations)
        move = registry.aliases.move(
            version,
            alias,
            expect=expect,
            why=why,
            verdict=evaluations[0].verdict if evaluations else "NONE",
            forced=force,
        )
    if as_json:
        print_json(move)
    else:
        before = f" (was @{move.from_number})" if move.from_number else ""
        click.echo(f"{version.adapter}@{alias} -> {version}{before}")


@click.command()
@click.argument("name")
@click.option("--to", "number", type=int, metavar="NUMBER", help="This version, not the last one.")
@click.option("--why", default="", help="The reason, kept in the history.")
@json_option
def rollback(name: str, number: int | None, why: str, as_json: bool) -> None:
    """Point production back at the version before the present one.

    With --to, at another version that production has named before.
    """
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        if number is None:
            version = registry.before_rollback(name)
        else:
            version = registry.versions.get(name, number)
            moves = registry.aliases.history(name, "production")
            if number not in {move.to_number for move in moves}:
                raise Conflict(
                    f"{version} has never been in production, so there is no rolling back to it",
                    hint=f"`hub promote {version}` asks the gate first.",
                )
        current = registry.aliases.of(name).get("production")
        if current == version.number:
            raise Conflict(f"{name}@production is version {current} already")
        move = registry.aliases.move(version, action="rollback", expect=current, why=why)
    if as_json:
        print_json(move)
    else:
        click.echo(f"{name}@production -> {version} (was @{move.from_number})")


@click.command()
@click.argument("name")
@json_option
def history(name: str, as_json: bool) -> None:
    """List every move of an adapter's aliases, newest first."""
    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        registry.versions.of(name)
        moves = registry.aliases.history(name)
    if as_json:
        print_json(moves)
        return
    rows = [
        [
            m.at[:19].replace("T", " "),
            m.alias,
            m.action,
            f"{m.from_number or '-'} -> {m.to_number or '-'}",
            m.verdict + (" (forced)" if m.forced else ""),
            m.who,
            m.why,
        ]
        for m in moves
    ]
    print_table(["when (UTC)", "alias", "action", "version", "gate", "who", "why"], rows)
