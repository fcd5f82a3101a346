"""The rules by which aliases move: who may take a protected one, and what a rollback goes back to.

Each operation is one write transaction around everything that it depends on: what the reference
means, where the alias is, what the gate said, which names are protected. Two processes that decide
at once decide one after the other, and the second one on what the first has left.
"""

from hub.errors import Conflict, UsageError
from hub.evaluation.gate import require_pass
from hub.names import (
    PRODUCTION,
    AdapterRef,
    Alias,
    parse_adapter_reference,
    parse_alias,
    parse_name,
)
from hub.records import AliasMove
from hub.registry import Registry
from hub.who import parse_reason


def move_alias(
    registry: Registry,
    reference: str,
    alias: str,
    *,
    action: str,
    expect: int | None = None,
    force: bool = False,
    why: str = "",
) -> AliasMove:
    """Point an alias at a version; `action` (promote or set) is what the history will call it.

    `expect` makes it a compare-and-swap: the number that the alias must name now, 0 for an alias
    that must not be there yet. A protected alias wants the version's newest evaluation to say PASS,
    or `force` with a reason. What the gate had said is recorded either way.

    Raises:
        AliasMoved: when the alias is not where `expect` says, telling where it is.
        GateRefused: when the alias is protected and the gate has not said PASS.
        Conflict: when the alias names this version already.
        UsageError: for a force without a reason, an unusable reason, or an `expect` that no alias
            can name.
    """
    parse_alias(alias)
    parse_reason(why)
    _require_reason(force, why)
    if expect is not None and expect < 0:
        raise UsageError(
            f"no alias names version {expect}", hint="0 means that the alias must not be there yet."
        )
    with registry.writing():
        version = registry.resolve(parse_adapter_reference(reference))
        current = registry.aliases.number(version.adapter, alias)
        if current == version.number and expect in (None, current):
            raise Conflict(f"{version.adapter}@{alias} is {version} already")
        evaluations = registry.ledger.evaluations(version)
        moved_away = expect is not None and expect != (current or 0)
        if not (force or moved_away) and alias in registry.aliases.protected():
            require_pass(version, evaluations)
        return registry.aliases.move(
            version,
            alias,
            action=action,
            expect=expect,
            why=why,
            verdict=evaluations[0].verdict if evaluations else "NONE",
            forced=force,
        )


def rollback(registry: Registry, name: str, *, to: int | None = None, why: str = "") -> AliasMove:
    """Point production back at the version before, or at another one that it has named.

    The gate is not asked: it was production before. A deleted version is never gone back to.

    Raises:
        Conflict: when there is none, or it is production already, or never was.
        UnknownReference: when there is no such adapter or version, or no longer.
    """
    parse_name(name)
    parse_reason(why)
    with registry.writing():
        if to is None:
            version = registry.before_rollback(name)
        else:
            version = registry.versions.get(name, to)
            if to not in {move.to_number for move in registry.aliases.history(name, PRODUCTION)}:
                raise Conflict(
                    f"{version} has never been in production, so there is no rolling back to it",
                    hint=f"`hub promote {version}` asks the gate first.",
                )
        current = registry.aliases.number(name, PRODUCTION)
        if current == version.number:
            raise Conflict(f"{name}@{PRODUCTION} is version {current} already")
        return registry.aliases.move(version, action="rollback", why=why)


def remove_alias(registry: Registry, name: str, alias: str, *, why: str = "") -> AliasMove:
    """Take an alias away. A protected one wants a reason, as forcing it would.

    Raises:
        Conflict: for production: requests that name no version go there.
        UsageError: for a protected alias without a reason.
        UnknownReference: when there is no such alias.
    """
    parse_name(name)
    parse_alias(alias)
    parse_reason(why)
    if alias == PRODUCTION:
        raise Conflict(
            f"{name}@{PRODUCTION} can be moved but not removed: '{name}' alone means it",
            hint=f"Move it with `hub promote` or `hub rollback {name}`, or remove the adapter.",
        )
    with registry.writing():
        there = registry.aliases.number(name, alias) is not None
        if there and alias in registry.aliases.protected() and not why.strip():
            raise UsageError(
                f"{AdapterRef(name, Alias(alias))} is protected, so removing it wants a reason",
                hint="Add --why 'REASON'.",
            )
        return registry.aliases.remove(name, alias, why=why)


def protect(registry: Registry, alias: str, *, protected: bool) -> list[str]:
    """Protect an alias name in every adapter, or stop to; returns all that are protected.

    Production stays protected. Lifting that would leave no trace in any adapter's history, where a
    promotion against the gate belongs: `--force --why` is the way, and is recorded each time.

    Raises:
        Conflict: for production, and for a name that is not protected.
    """
    parse_alias(alias)
    if protected:
        return registry.aliases.protect(alias, protected=True)
    if alias == PRODUCTION:
        raise Conflict(
            f"'{PRODUCTION}' is always protected",
            hint="To promote against the gate, say why: `hub promote REF --force --why REASON`.",
        )
    with registry.writing():
        known = registry.aliases.protected()
        if alias not in known:
            raise Conflict(
                f"'{alias}' is not protected", hint=f"Protected are: {', '.join(known)}."
            )
        return registry.aliases.protect(alias, protected=False)


def _require_reason(force: bool, why: str) -> None:
    if force and not why.strip():
        raise UsageError("--force wants a reason", hint="Add --why 'REASON'.")
