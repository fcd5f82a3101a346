"""Rows as tokens, and which of them are learned: what the base's chat template makes of a row.

Only the assistant's tokens are trained on, the end of each turn included. Which those are is told
by the template's `{% generation %}` markers; for a template without them TRL has a version with
them for the families that it knows. A template that would train on nothing, or never teach the
model to stop, is refused.

The same encoding serves the lint, the trainer and the samples, so what is counted is what is
trained on. What a row says and a template would leave out is refused, never dropped: tools and
calls that the template does not render, and `weight` 0 where turns can't be told apart.

Importing this module imports no library; loading a tokenizer does.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hub.errors import BaseError, InvalidConfig, InvalidData
from train.rows import Message, Row
from train.runtime import quiet

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = (Message("user", "Hello"), Message("assistant", "Hello there"))
_PROBE_NAME, _PROBE_ANSWER = "look_up_parcel", "on its way"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE_NAME,
        "description": "Where a parcel is",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}
_PROBE_CALL = {
    "id": "call00001",  # nine letters and digits, which Mistral's templates insist on
    "type": "function",
    "function": {"name": _PROBE_NAME, "arguments": '{"id": "7"}'},
}
_PROBE_CALLED = (
    _PROBE[0],
    Message("assistant", "", tool_calls=(_PROBE_CALL,)),
    Message("tool", _PROBE_ANSWER, name=_PROBE_NAME, tool_call_id="call00001"),
    _PROBE[1],
)


@dataclass(frozen=True)
class Encoded:
    """A row's token ids, and for each whether the loss is taken on it."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]


class ChatTokenizer:
    """A base's tokenizer with the chat template that rows are trained under."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer = tokenizer
        self._template = template

    @classmethod
    def load(cls, source: str) -> "ChatTokenizer":
        """Load the tokenizer of a base's folder, and make sure that it can be trained with.

        Raises:
            BaseError: when there is no tokenizer, or it has no chat template.
            InvalidConfig: when the template would train on nothing, or not on the end of a turn.
        """
        from transformers import AutoTokenizer

        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise BaseError(
                f"its tokenizer can't be loaded: {_first_line(error)}", where=source
            ) from error
        chat = cls(tokenizer, _training_template(tokenizer, source))
        _refuse_untrainable(chat, source)
        return chat

    def encode(self, row: Row) -> Encoded:
        """The row's tokens under the template; raises what the template raises.

        Raises:
            InvalidData: when the template would leave out tools that the row has, or can't honour
                a weight of 0.
        """
        self._refuse_unrendered(row)
        encoded = self.encode_messages(row.messages, row.tools)
        if all(message.weight != 0 for message in row.messages):
            return encoded
        answers = [message for message in row.messages if message.role == "assistant"]
        turns = _turns(encoded.trained)
        if len(turns) != len(answers):
            raise InvalidData(
                f"the base's chat template marks {len(turns)} answers of the {len(answers)} that "
                "the row has, so which of them has weight 0 can't be told",
                where=f"{row.file}, row {row.number}",
                hint="Leave the weights out, or the turns that have them.",
            )
        trained = list(encoded.trained)
        for message, (start, end) in zip(answers, turns, strict=True):
            if message.weight == 0:
                trained[start:end] = [False] * (end - start)
        return Encoded(encoded.ids, tuple(trained))

    def count(self, row: Row) -> tuple[int, int]:
        """(tokens, trained tokens) for the lint; (0, 0) where the template refuses the row."""
        from jinja2 import TemplateError

        try:
            encoded = self.encode(row)
        except (TemplateError, ValueError, TypeError):
            return 0, 0
        return len(encoded.ids), sum(encoded.trained)

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        """What the model is given to answer: the base's own template, as a server renders it."""
        return str(
            self.tokenizer.apply_chat_template(
                [_for_template(message) for message in messages],
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    def _refuse_unrendered(self, row: Row) -> None:
        unrendered = None
        if row.tools and not self._renders[0]:
            unrendered = "tools"
        elif any(message.tool_calls for message in row.messages) and not self._renders[1]:
            unrendered = "calls of tools"
        elif any(message.role == "tool" for message in row.messages) and not self._renders[2]:
            unrendered = "what tools answer"
        if unrendered is not None:
            raise InvalidData(
                f"the row has {unrendered}, which the base's chat template does not show",
                where=f"{row.file}, row {row.number}",
                hint="Train on a base whose template knows tools, or leave these rows out.",
            )

    @cached_property
    def _renders(self) -> tuple[bool, bool, bool]:
        """Whether the template shows tools, calls of tools, and their answers."""
        return (
            self._shows([*_PROBE], _PROBE_NAME, [_PROBE_TOOL]),
            self._shows(_PROBE_CALLED, _PROBE_NAME, []),
            self._shows(_PROBE_CALLED, _PROBE_ANSWER, []),
        )

    def _shows(
        self, messages: Sequence[Message], text: str, tools: Sequence[dict[str, Any]]
    ) -> bool:
        try:
            encoded = self.encode_messages(messages, tools)
        except Exception:  # templates raise what they like; a row of this sort meets it again
            return False
        return text in str(self.tokenizer.decode(encoded.ids))

    def encode_messages(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> Encoded:
        with quiet():
            output = self.tokenizer.apply_chat_template(
                [_for_template(message) for message in messages],
                tools=list(tools) or None,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
                chat_template=self._template,
            )
        masks = (bool(mark) for mark in output["assistant_masks"])
        return Encoded(tuple(output["input_ids"]), tuple(masks))


def _refuse_untrainable(chat: ChatTokenizer, source: str) -> None:
    try:
        # A user follows, because some templates end only those turns that are not the last.
        encoded = chat.encode_messages([*_PROBE, _PROBE[0]])
    except Exception as error:
        raise InvalidConfig(
            [f"base: its chat template fails on a plain chat: {_first_line(error)}"],
            where=source,
        ) from error
    pairs = zip(encoded.ids, encoded.trained, strict=True)
    learned = [token for token, trained in pairs if trained]
    if not learned:
        raise InvalidConfig(
            ["base: its chat template marks none of an answer's tokens to be learned"],
            where=source,
        )
    ends = {*chat.tokenizer.get_added_vocab().values(), chat.tokenizer.eos_token_id}
    if not any(token in ends for token in learned[-3:]):
        raise InvalidConfig(
            [
                "base: its chat template leaves the end of a turn outside of "
                "{% generation %}, so an adapter would never learn to stop; "
                "move the end token inside"
            ],
            where=source,
        )


def _training_template(tokenizer: Any, source: str) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise BaseError(
            "the base has no chat template, so chats can't be trained on",
            where=source,
            hint="Use the instruct or chat variant of the model.",
        )
    if _MARKER.search(template):
        return str(template)
    from trl.chat_template_utils import get_training_chat_template

    try:
        with quiet():
            patched = get_training_chat_template(tokenizer)
    except ValueError as error:
        raise InvalidConfig(
            [
                "base: its chat template does not mark the assistant's tokens and is none that "
                "TRL knows; put {% generation %} and {% endgeneration %} around the assistant's "
                "content and end token in its chat_template"
            ],
            where=source,
        ) from error
    return str(patched or template)


def _for_template(message: Message) -> dict[str, Any]:
    """Templates want a call's arguments as an object; OpenAI's files hold them as JSON text."""
    facts = replace(message, weight=None, refusal=False).to_json()
    if message.tool_calls:
        facts["tool_calls"] = [_with_arguments(call) for call in message.tool_calls]
    return facts


def _turns(trained: Sequence[bool]) -> list[tuple[int, int]]:
    """Start and end of each stretch of trained tokens; the opening of a turn lies between two."""
    edges = [at for at, mark in enumerate(trained) if mark != (at > 0 and trained[at - 1])]
    if trained and trained[-1]:
        edges.append(len(trained))
    return list(zip(edges[::2], edges[1::2], strict=True))


def _with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
