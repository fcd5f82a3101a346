"""What is loaded in the engine, and what to try its base with."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter

from hub.records import Base
from serve.protocol import ResidencyOut, ResidentOut, SuggestionsOut
from serve.residency import Residency

SUGGESTIONS = "suggestions.json"


def residency_routes(base: Base, residency: Residency) -> APIRouter:
    router = APIRouter(prefix="/hub", tags=["serving"])

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
