"""What people say of answers, and the answers that they say it of."""

from dataclasses import asdict

import orjson
from fastapi import APIRouter

from hub.feedback.interactions import Feedback, InteractionLog
from serve.journal import Journal
from serve.protocol import FeedbackIn, FeedbackOut, InteractionOut


def feedback_routes(journal: Journal) -> APIRouter:
    router = APIRouter(prefix="/hub", tags=["feedback"])

    @router.post("/feedback", status_code=201)
    async def give_feedback(given: FeedbackIn) -> FeedbackOut:
        def give(log: InteractionLog) -> Feedback:
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
        found, said = await journal.ask(
            lambda log: (log.get(interaction_id), log.feedback(interaction_id))
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
