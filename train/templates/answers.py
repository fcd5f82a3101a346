"""Where an assistant's answers stand in a conversation that a base's own template has rendered.

Where the template marks them with `{% generation %}`, they are where it says. Most templates don't;
then they are found from the outside, by what the template makes of slightly other conversations:

    start  where the prompt ends that a server makes of the messages before the answer
    end    of its own words: a letter is added to the answer's last word (or an argument to its last
           call), and what the two texts have in common at their ends lies behind it. The turn's end
           is the first end token from there on, before the next message begins.

An answer is not learned where the text before it is not that prompt: the template wrote the
opening of its turn, or what went before, in another way than it is served. It is so with templates
that open a turn with `<think>` and leave that out of earlier turns, and with those that show tools
only before the last question. Nor is one learned whose thoughts the template has left out: the
model would learn not to think.

Rendering is all that this needs, so it holds for templates that nobody has seen. The text that is
trained on is never one of the other conversations'.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hub.errors import InvalidData
from train.data.rows import Message
from train.templates.template import Template, Tools, with_arguments

Span = tuple[int, int]  # in characters, the end excluded
# The private use area: texts rarely have its letters, and no template looks for them.
_LETTERS = "".join(map(chr, range(0xE000, 0xE400)))
_PRIVATE = re.compile("[\ue000-\uf8ff]")


@dataclass(frozen=True)
class Answers:
    """A rendered conversation, and a span for each of the assistant's messages, or None for one
    that does not stand as it is served. Not `told_apart` are the spans where the template itself
    marks more stretches than there are such messages, or fewer; then they are those stretches.
    """

    text: str
    spans: tuple[Span | None, ...]
    told_apart: bool = True
    marked: bool = False


def find_answers(
    template: Template, messages: Sequence[Message], tools: Tools, ends: Sequence[str]
) -> Answers:
    """`ends` are the texts of the tokens that end a turn, or may.

    Raises:
        InvalidData: when an answer is not in the text, or has no end of its turn.
        TemplateError, ValueError, TypeError: what the template raises for these messages.
    """
    answers = [at for at, message in enumerate(messages) if message.role == "assistant"]
    if not template.marks_answers(tools):
        search = _Search(template, messages, tools, ends)
        return Answers(search.text, tuple(search.span(at) for at in answers))
    text, marks = template.marked(messages, tools)
    spans = _joined(marks)
    if len(spans) != len(answers):
        return Answers(text, tuple(spans), told_apart=False, marked=True)
    served = [
        span
        if _prompt_end(template, messages, tools, at, text) is not None
        and _thoughts(messages[at]) in text[span[0] : span[1]]
        else None
        for at, span in zip(answers, spans, strict=True)
    ]
    return Answers(text, tuple(served), marked=True)


def opening(template: Template, messages: Sequence[Message], tools: Tools) -> str:
    """What a prompt for the last answer ends with: the opening of its turn, for a message.

    Nothing where the template makes no prompt for it.
    """
    from jinja2 import TemplateError

    at = max(at for at, message in enumerate(messages) if message.role == "assistant")
    try:
        prompt = template.prompt(messages[:at], tools)
        return prompt[_common_prefix(prompt, template.text(messages[:at], tools)) :]
    except (TemplateError, ValueError, TypeError):
        return ""


def _prompt_end(
    template: Template, messages: Sequence[Message], tools: Tools, at: int, text: str
) -> int | None:
    """Where in the text the prompt for an answer ends; None where the text has another one."""
    if at == 0:  # no server is asked nothing
        return None
    from jinja2 import TemplateError

    try:
        prompt = template.prompt(messages[:at], tools)
    except (TemplateError, ValueError, TypeError):
        return None
    return len(prompt) if text.startswith(prompt) else None


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Stretches that touch made one; the opening of a turn lies between two answers."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1][1] == span[0]:
            joined[-1] = (joined[-1][0], span[1])
        else:
            joined.append(span)
    return joined


class _Search:
    def __init__(
        self, template: Template, messages: Sequence[Message], tools: Tools, ends: Sequence[str]
    ) -> None:
        self._template, self._messages, self._tools, self._ends = template, messages, tools, ends
        self.text = template.text(messages, tools)
        self._places = self._all_places()

    def span(self, at: int) -> Span | None:
        start = _prompt_end(self._template, self._messages, self._tools, at, self.text)
        if start is None:
            return None
        end = self._end(at)
        return (start, end) if _thoughts(self._messages[at]) in self.text[start:end] else None

    def _end(self, at: int) -> int:
        last = at + 1 == len(self._messages)
        said, limit = self._place(at), len(self.text) if last else self._place(at + 1)
        found = [(self.text.find(end, said, limit), end) for end in self._ends]
        places = [(place, len(end)) for place, end in found if place >= 0]
        if not places:
            raise InvalidData(
                f"the base's chat template does not end answer {self._nth(at)} with an end token, "
                "so that the model would not learn to stop"
            )
        place, length = min(places)
        return place + length

    def _place(self, at: int) -> int:
        """Where the words of an answer end, or where those of another message begin."""
        if at in self._places:
            return self._places[at]
        answer = self._messages[at].role == "assistant"
        messages = list(self._messages)
        messages[at] = _lettered(messages[at], _LETTERS[0])
        other = self._template.text(messages, self._tools)
        if answer and other == self.text:
            raise InvalidData(f"the base's chat template leaves out answer {self._nth(at)}")
        if answer:
            return len(self.text) - _common_suffix(self.text, other)
        return _common_prefix(self.text, other)

    def _all_places(self) -> dict[int, int]:
        """`_place` of all messages at once, by one rendering; those of calls are left open.

        Empty where the template does anything else with the letters than to show them.
        """
        count = len(self._messages)
        if count > len(_LETTERS) or _PRIVATE.search(self.text):
            return {}
        at = [place for place in range(count) if not self._messages[place].tool_calls]
        messages = list(self._messages)
        for place in at:
            messages[place] = _lettered(messages[place], _LETTERS[place])
        text = self._template.text(messages, self._tools)
        found = sorted((text.find(_LETTERS[place]), place) for place in at)
        places = {place: where - before for before, (where, place) in enumerate(found)}
        plain = text.translate(dict.fromkeys(map(ord, _LETTERS[:count])))
        if plain != self.text or len(text) != len(plain) + len(at):
            return {}
        return places

    def _nth(self, at: int) -> int:
        return sum(message.role == "assistant" for message in self._messages[: at + 1])


def _thoughts(message: Message) -> str:
    before, close, _ = message.content.rpartition("</think>")
    return before.rpartition("<think>")[2].strip() if close else ""


def _lettered(message: Message, letter: str) -> Message:
    """The message with a letter more: behind an answer's last word, before another's first."""
    if message.role != "assistant":
        return replace(message, content=letter + message.content)
    said = message.content.rstrip()
    longer = said + letter + message.content[len(said) :]
    if not message.tool_calls:
        return replace(message, content=longer)
    *calls, last = message.tool_calls
    content = longer if said else message.content
    return replace(message, content=content, tool_calls=(*calls, _longer_call(last, letter)))


def _longer_call(call: dict[str, Any], letter: str) -> dict[str, Any]:
    function = with_arguments(call).get("function")
    if not isinstance(function, dict):
        return call
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = {**arguments, letter: letter}
    elif isinstance(arguments, str):
        arguments += letter
    else:
        arguments = {letter: letter}
    return {**call, "function": {**function, "arguments": arguments}}


def _common_prefix(one: str, other: str) -> int:
    """How many characters two texts share from the start; log n comparisons of slices."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.endswith(other[len(other) - middle :]):
            low = middle
        else:
            high = middle - 1
    return low
