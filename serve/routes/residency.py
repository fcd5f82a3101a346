"""What is loaded in the engines, changes to that, and what to try their base with.

What a caller may not see is not in the lists; and who may not see everything gets no counts, which
would tell that there is more.
Changes are for those who may see everything: the slots are everybody's.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter

from hub.clock import stamp
from hub.errors import UsageError
from hub.records import Base, Version
from serve.caller import caller, needs
from serve.placement.fleet import Member
from serve.placement.residency import Residency
from serve.placement.slots import Resident
from serve.protocol import (
    EngineResidencyOut,
    PinOut,
    ResidencyChangedOut,
    ResidencyIn,
    ResidencyOut,
    ResidentOut,
    SlotsOut,
    SuggestionsOut,
)
from serve.resolver import Resolver
from serve.warmth import Warmth

SUGGESTIONS = "suggestions.json"


def residency_routes(base: Base, warmth: Warmth, resolver: Resolver) -> APIRouter:
    router = APIRouter(prefix="/hub", tags=["serving"])
    may_ask = [needs("infer")]
    may_change = [needs("admin", everything=True)]

    def version_of(asked: ResidencyIn) -> Version:
        # What has been deleted since can't be resolved any more, but it can be unloaded.
        for _, residency in warmth.explicit():
            if (version := residency.resident(asked.adapter)) is not None:
                return version
        resolved = resolver.resolve(asked.adapter).version
        if resolved is None:
            raise UsageError("the base is always there: name an adapter")
        return resolved

    @router.get("/residency", dependencies=may_ask)
    async def resident() -> ResidencyOut:
        explicit = [residency for _, residency in warmth.explicit()]
        pins = [PinOut(reference=p.reference, version=_named(p.version)) for p in warmth.pins]
        return ResidencyOut(
            loads=sum(residency.loads for residency in explicit) if _whole() else None,
            evictions=sum(residency.evictions for residency in explicit) if _whole() else None,
            engines=[_engine(member) for member in warmth.fleet.members],
            pins=[pin for pin in pins if caller.get().sees_version(pin.reference)],
        )

    @router.post("/residency/load", dependencies=may_change)
    async def load(asked: ResidencyIn) -> ResidencyChangedOut:
        version = version_of(asked)
        return ResidencyChangedOut(version=str(version), engines=await warmth.load(version))

    @router.post("/residency/unload", dependencies=may_change)
    async def unload(asked: ResidencyIn) -> ResidencyChangedOut:
        """Answers when the last request that used it is done and it is gone."""
        version = version_of(asked)
        return ResidencyChangedOut(version=str(version), engines=await warmth.unload(version))

    @router.post("/residency/pin", dependencies=may_change)
    async def pin(asked: ResidencyIn) -> ResidencyChangedOut:
        version, engines = await warmth.pin(asked.adapter)
        return ResidencyChangedOut(version=str(version), engines=engines)

    @router.post("/residency/unpin", dependencies=may_change)
    async def unpin(asked: ResidencyIn) -> ResidencyChangedOut:
        version = warmth.unpin(asked.adapter)
        engines = warmth.holders(version) if version else []
        return ResidencyChangedOut(version=_named(version), engines=engines)

    @router.get("/suggestions", dependencies=may_ask)
    async def suggestions() -> SuggestionsOut:
        return SuggestionsOut(prompts=await asyncio.to_thread(read_suggestions, base))

    return router


def _engine(member: Member) -> EngineResidencyOut:
    engine = member.engine
    held = member.adapters if isinstance(member.adapters, Residency) else None
    # What one that is down had is gone with it, or will be looked for when it is back.
    residents = held.residents() if held and member.is_up else []
    return EngineResidencyOut(
        name=engine.name,
        url=engine.url if _whole() else None,
        loading=engine.loads,
        state=engine.state,
        generation=engine.generation if _whole() else None,
        gpu_slots=_gpu_slots(held) if held and _whole() else None,
        cpu_slots=_cpu_slots(held, is_up=member.is_up) if held and _whole() else None,
        foreign=list(held.foreign) if held and _whole() else [],
        residents=[
            _resident(resident)
            for resident in residents
            if caller.get().sees_version(resident.version)
        ],
    )


def _whole() -> bool:
    """Whether the caller may see every adapter."""
    return caller.get().namespaces is None


def _gpu_slots(held: Residency) -> SlotsOut:
    return SlotsOut(limit=held.batch.limit, used=held.batch.used, waiting=held.batch.waiting)


def _cpu_slots(held: Residency, *, is_up: bool) -> SlotsOut:
    used = held.used if is_up else 0
    return SlotsOut(limit=held.capacity, used=used, waiting=held.waiting)


def _resident(resident: Resident) -> ResidentOut:
    used = resident.used_at
    return ResidentOut(
        version=resident.version,
        state=resident.state,
        leases=resident.leases,
        pinned=resident.pinned,
        last_used=stamp(datetime.fromtimestamp(used, UTC)) if used is not None else None,
    )


def _named(version: Version | None) -> str | None:
    return None if version is None else str(version)


def read_suggestions(base: Base) -> list[str]:
    """The prompts in `suggestions.json` beside the base's weights; none where there is no such file
    or it is something else: they are a help, and no reason to fail."""
    try:
        held = json.loads((Path(base.source) / SUGGESTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    prompts = held.get("prompts") if isinstance(held, dict) else None
    return [text for text in prompts if isinstance(text, str)] if isinstance(prompts, list) else []
