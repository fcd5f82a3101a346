"""What people say of answers, and the answers that they say it of."""

from dataclasses import asdict

import orjson
from fastapi import APIRouter

from hub.feedback.interactions import Feedback, Interaction, InteractionLog, unknown
from serve.caller import Caller, caller, needs
from serve.journal import Journal
from serve.protocol import FeedbackIn, FeedbackOut, InteractionOut


def feedback_routes(journal: Journal) -> APIRouter:
    router = APIRouter(prefix="/hub", tags=["feedback"], dependencies=[needs("feedback")])

    @router.post("/feedback", status_code=201)
    async def give_feedback(given: FeedbackIn) -> FeedbackOut:
        asking = caller.get()

        def give(log: InteractionLog) -> Feedback:
            _seen(log, given.interaction_id, asking)
            return log.give_feedback(
                given.interaction_id,
                thumb=given.thumb,
                edit=given.edit,
                tags=given.tags,
                comment=given.comment,
            )

        return FeedbackOut.model_validate(asdict(await journal.ask(give)))

    @router.get("/interactions/{interaction_id}")
    async def interaction(interaction_id: str) -> InteractionOut:
        asking = caller.get()
        found, said = await journal.ask(
            lambda log: (_seen(log, interaction_id, asking), log.feedback(interaction_id))
        )
        return InteractionOut.model_validate(
            {
                **asdict(found),
                "request": orjson.loads(found.request),
                "response": orjson.loads(found.response),
                "feedback": [asdict(entry) for entry in said],
            }
        )

    return router


def _seen(log: InteractionLog, interaction_id: str, asking: Caller) -> Interaction:
    """Raises UnknownInteraction, in the same words, for one that is not the caller's to see."""
    found = log.get(interaction_id)
    if not asking.sees_work_of(found.key, found.adapter):
        raise unknown(interaction_id)
    return found
