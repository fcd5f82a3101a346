"""What is published on the served base, what is loaded, and what to try it with."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter

from hub.records import Base
from hub.registry import Registry
from serve.protocol import (
    AdapterOut,
    AdaptersOut,
    BaseOut,
    ResidencyOut,
    ResidentOut,
    SuggestionsOut,
)
from serve.residency import Residency

SUGGESTIONS = "suggestions.json"


def adapter_routes(registry: Registry, base: Base, residency: Residency) -> APIRouter:
    router = APIRouter(prefix="/hub", tags=["adapters"])

    @router.get("/adapters")
    async def adapters() -> AdaptersOut:
        return AdaptersOut(
            base=BaseOut(name=base.name, digest=base.digest),
            adapters=[
                AdapterOut.model_validate(asdict(summary), extra="ignore")
                for summary in registry.summaries()
                if summary.base == base.name
            ],
        )

    @router.get("/residency")
    async def resident() -> ResidencyOut:
        return ResidencyOut(
            capacity=residency.capacity,
            loads=residency.loads,
            evictions=residency.evictions,
            residents=[ResidentOut.model_validate(asdict(r)) for r in residency.residents()],
        )

    @router.get("/suggestions")
    async def suggestions() -> SuggestionsOut:
        return SuggestionsOut(prompts=await asyncio.to_thread(read_suggestions, base))

    return router


def read_suggestions(base: Base) -> list[str]:
    """The prompts in `suggestions.json` beside the base's weights; none where there is no such file
    or it is something else: they are a help, and no reason to fail."""
    try:
        held = json.loads((Path(base.source) / SUGGESTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    prompts = held.get("prompts") if isinstance(held, dict) else None
    return [text for text in prompts if isinstance(text, str)] if isinstance(prompts, list) else []
