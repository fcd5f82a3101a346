"""A base's own chat template: conversations as text, byte for byte as a server renders them.

Messages go in as `train.data.rows` has them and are spelled as templates want them. Nothing here
changes a template or renders with another: what is trained on and what is served are the same text.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from train.data.rows import Message

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")

Tools = Sequence[dict[str, Any]]

_TOLD = ("name", "description", "parameters")  # of a tool's function, also where they are null
_TOOL_FACTS = (*_TOLD, "strict", "defer_loading")


class Template:
    """The chat template that a tokenizer brings; raises what the template raises."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def text(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """A conversation as it stands, with no opening of a turn that is still to come."""
        return self._rendered(messages, tools, prompt=False)

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """What a server gives the model to answer: with the opening of its turn."""
        return self._rendered(messages, tools, prompt=True)

    def marks_answers(self, tools: Tools = ()) -> bool:
        """Whether the template itself says what is the assistant's, by `{% generation %}`."""
        return _MARKER.search(self._source(tools)) is not None

    def marked(
        self, messages: Sequence[Message], tools: Tools = ()
    ) -> tuple[str, list[tuple[int, int]]]:
        """As `text`, and (start, end) of each stretch inside `{% generation %}`, in characters."""
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered: Any = render_jinja_template(
            conversations=[spelled(messages)],
            tools=served(tools),
            chat_template=self._source(tools),
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        (text,), (spans,) = rendered
        return text, [(start, end) for start, end in spans if end > start]

    def _source(self, tools: Tools) -> str:
        """Of several named templates the one for tools, where there are tools, as servers do."""
        return str(self._tokenizer.get_chat_template(None, list(tools) or None))

    def _rendered(self, messages: Sequence[Message], tools: Tools, *, prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                spelled(messages),
                tools=served(tools),
                tokenize=False,
                add_generation_prompt=prompt,
            )
        )


def served(tools: Tools) -> list[Any] | None:
    """Tools as vLLM hands them to a template, whatever order a file has them in.

    It reads a request's tools into a form of its own: the type and the function; of that the name,
    description and parameters, null where there are none, and `strict` and `defer_loading` where
    they are set; nothing else (`ChatCompletionToolsParam` of vLLM 0.32). What it would refuse is
    left as it is.
    """
    return [_served(tool) for tool in tools] or None


def _served(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or "name" not in function:
        return tool
    deferred = tool.get("defer_loading")
    told = {key: function.get(key) for key in _TOOL_FACTS}
    if deferred is not None and function.get("defer_loading") is None:
        told["defer_loading"] = deferred
    shown = {key: value for key, value in told.items() if key in _TOLD or value is not None}
    return {
        "type": tool.get("type", "function"),
        "function": shown,
        **({} if deferred is None else {"defer_loading": deferred}),
    }


def spelled(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Templates want a call's arguments as an object; OpenAI's files hold them as JSON text."""
    return [_spelled(message) for message in messages]


def _spelled(message: Message) -> dict[str, Any]:
    facts = replace(message, weight=None, refusal=False).to_json()
    if message.tool_calls:
        facts["tool_calls"] = [with_arguments(call) for call in message.tool_calls]
    return facts


def with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
