"""Blind comparisons: one prompt, two arms, sides drawn at random and known only to the server.

Until the vote nothing that reaches the browser names or betrays an arm: no model, id, header, token
count or error text of an engine passes, only the answers' words. Both arms are loaded before either
begins, so that a load's pause does not tell the adapter from the base, and neither loading nor
sending goes by the sides. What time itself betrays after that (a slower arm) is not hidden.

What was asked for waits in memory between its making and its one stream; a restart of the gateway
forgets it, and the page asks anew.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from hub.errors import Conflict, EngineRefused, HubError
from hub.feedback.interactions import (
    Comparison,
    Interaction,
    InteractionLog,
    unknown_comparison,
)
from serve.caller import Caller, caller
from serve.journal import Journal
from serve.protocol import ComparisonIn, SideOut, VoteOut
from serve.requests import sse
from serve.requests.admission import Admission
from serve.requests.dispatch import Dispatcher, Reply
from serve.requests.draft import Draft
from serve.requests.running import Answering, Running
from serve.requests.surface import CHAT
from serve.resolver import Arm, Resolver

_log = logging.getLogger(__name__)

SIDES = ("left", "right")
_WAITING_AT_MOST = 1000
_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
# One sentence for every cause: an engine that refuses may do so for one of the arms only.
_FAILED = {"message": "this side could not be answered; the gateway's log says why"}
_Queue = asyncio.Queue[dict[str, Any] | None]


@dataclass(frozen=True)
class _Side:
    name: str
    requested: str
    arm: Arm


@dataclass(frozen=True)
class _Waiting:
    key: str
    sides: tuple[_Side, _Side]
    body: dict[str, Any]


class Comparisons:
    def __init__(
        self,
        resolver: Resolver,
        dispatcher: Dispatcher,
        journal: Journal,
        admission: Admission,
    ) -> None:
        self._resolver = resolver
        self._dispatcher = dispatcher
        self._journal = journal
        self._admission = admission
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()

    async def create(self, asked: ComparisonIn) -> str:
        """Resolve both arms, draw the sides, and return the comparison's id.

        Raises:
            UnknownReference: when an arm is not one of ours.
        """
        resolved = [(text, self._resolver.resolve(text)) for text in asked.arms]
        if secrets.randbelow(2):
            resolved.reverse()
        left, right = (
            _Side(name, text, arm) for name, (text, arm) in zip(SIDES, resolved, strict=True)
        )
        body = asked.model_dump(exclude={"arms"}, exclude_none=True)
        key = caller.get().id
        comparison = await self._journal.ask(
            lambda log: log.add_comparison(
                body["messages"], left.requested, right.requested, key=key or None
            )
        )
        self._waiting[comparison.id] = _Waiting(key, (left, right), body)
        if len(self._waiting) > _WAITING_AT_MOST:
            self._waiting.popitem(last=False)
        return comparison.id

    async def stream(self, comparison_id: str) -> Running:
        """Both answers as they come, once.

        Raises:
            UnknownInteraction: when there is no such comparison.
            Conflict: when it was streamed before, or forgotten.
        """
        asking = caller.get()
        waiting = self._waiting.get(comparison_id)
        if waiting is not None and (asking.namespaces is None or waiting.key == asking.id):
            del self._waiting[comparison_id]
        else:
            await self._journal.ask(lambda log: _seen(log, comparison_id, asking))
            raise Conflict("a comparison is streamed once", hint="Make a new one.")

        async def run(answering: Answering) -> None:
            with self._admission.enter():
                await self._run(comparison_id, waiting, answering)

        return Running(run)

    async def vote(self, comparison_id: str, vote: str) -> VoteOut:
        """Record the vote, and only now name the arms. Raises as `InteractionLog.vote`."""

        asking = caller.get()

        def record(log: InteractionLog) -> VoteOut:
            _seen(log, comparison_id, asking)
            comparison = log.vote(comparison_id, vote)
            # `vote` refuses a comparison whose answers are not attached.
            left = log.get(str(comparison.left_interaction))
            right = log.get(str(comparison.right_interaction))
            return VoteOut(vote=vote, left=_revealed(left), right=_revealed(right))

        return await self._journal.ask(record)

    async def _run(self, comparison_id: str, waiting: _Waiting, answering: Answering) -> None:
        await answering.start(200, _HEADERS)
        queue: _Queue = asyncio.Queue()
        work = asyncio.create_task(self._both(comparison_id, waiting, queue))
        try:
            while (event := await queue.get()) is not None:
                await answering.write(sse.write(event))
            await answering.end(await work)
        finally:
            work.cancel()
            # A cancelled answer still writes down what it had.
            await asyncio.wait({work})

    async def _both(self, comparison_id: str, waiting: _Waiting, queue: _Queue) -> bytes:
        """Answer both sides into the queue, log them, and return the stream's last event."""
        try:
            await asyncio.gather(
                *(
                    self._dispatcher.warm(side.arm)
                    for side in sorted(waiting.sides, key=_engine_name)
                ),
                return_exceptions=True,
            )
            # In an order of its own: one by the sides could be read from what is evicted later, and
            # one by the arms from which side's words come first.
            sending = {
                side.name: asyncio.ensure_future(self._side(side, waiting.body, queue))
                for side in _shuffled(waiting.sides)
            }
            answers = await asyncio.gather(*(sending[name] for name in SIDES))
            await asyncio.gather(*(self._journal.record(answer) for answer in answers))
            left, right = (answer.id for answer in answers)
            await self._journal.ask(lambda log: log.answer_comparison(comparison_id, left, right))
        except HubError as error:
            _log.error("comparison %s: %s", comparison_id, error)
            return sse.write({"error": {"message": "the answers could not be logged"}})
        finally:
            queue.put_nowait(None)
        return sse.DONE

    async def _side(self, side: _Side, body: dict[str, Any], queue: _Queue) -> Interaction:
        """One answer, its words put into the queue; failures end the side and are logged."""
        request = {"model": side.requested, **body}
        draft = Draft("chat", side.requested, side.arm, orjson.dumps(request).decode())
        streamed = {**request, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._dispatcher.send(side.arm, CHAT, orjson.dumps(streamed)) as reply:
                if not reply.is_stream:
                    draft.transcript.add_body(reply.head)
                    raise _refused(draft, reply, side.arm)
                draft.mark_first_byte()
                async for event in reply.events():
                    if delta := draft.transcript.add_data(sse.data_of(event)):
                        queue.put_nowait({"side": side.name, "delta": delta})
                if draft.transcript.error:
                    raise _refused(draft, reply, side.arm)
        except HubError as error:
            _log.warning("a side of a comparison failed (%s): %s", side.arm.public, error)
            queue.put_nowait({"side": side.name, "error": _FAILED})
            return draft.finish("incomplete" if draft.transcript.answer else "failed", str(error))
        except asyncio.CancelledError:
            self._journal.submit(draft.finish("incomplete", "the client went away"))
            raise
        queue.put_nowait({"side": side.name, "done": True})
        return draft.finish("complete")


def _seen(log: InteractionLog, comparison_id: str, asking: Caller) -> Comparison:
    """Raises UnknownInteraction, in the same words, for one that is not the caller's own."""
    found = log.comparison(comparison_id)
    if asking.namespaces is not None and found.key != asking.id:
        raise unknown_comparison(comparison_id)
    return found


def _revealed(interaction: Interaction) -> SideOut:
    return SideOut(arm=interaction.adapter, interaction_id=interaction.id)


def _engine_name(side: _Side) -> str:
    return side.arm.version.engine_name if side.arm.version else ""


def _shuffled(sides: tuple[_Side, _Side]) -> tuple[_Side, _Side]:
    return (sides[1], sides[0]) if secrets.randbelow(2) else sides


def _refused(draft: Draft, reply: Reply, arm: Arm) -> EngineRefused:
    words = draft.transcript.reason.replace(reply.engine_name, arm.public)
    return EngineRefused(f"HTTP {reply.status}: {words}")
