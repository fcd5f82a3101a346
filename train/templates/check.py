"""Whether a chat template can be trained with, learned from what it makes of small conversations.

Refused is what would go wrong quietly: a template that shows no answer, one that opens the turn in
a prompt as no conversation has it, and one that never ends the last answer.
"""

from collections.abc import Sequence
from dataclasses import replace

from hub.errors import InvalidConfig, InvalidData
from train.data.rows import Message
from train.templates.answers import Answers, find_answers, opening
from train.templates.template import Template, Tools

PLAIN = (Message("user", "Hello"), Message("assistant", "Hello there"))
# What a reasoning model's template may want an answer to begin with.
THOUGHTFUL = (PLAIN[0], replace(PLAIN[1], content="<think>\nA greeting.\n</think>\n\nHello there"))
TOOL_NAME = "look_up_parcel"
TOOL = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "Where a parcel is",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}
_CALL = {
    "id": "call00001",  # nine letters and digits, which Mistral's templates insist on
    "type": "function",
    "function": {"name": TOOL_NAME, "arguments": '{"id": "7"}'},
}
CALLED = (
    PLAIN[0],
    Message("assistant", "", tool_calls=(_CALL,)),
    Message("tool", "on its way", name=TOOL_NAME, tool_call_id="call00001"),
    PLAIN[1],
)


def require_trainable(template: Template, special: Sequence[str], source: str) -> None:
    """Refuse a template that no row of one question and one answer can be trained with.

    Raises:
        InvalidConfig: saying what the template does, and what would be right.
    """
    try:
        text = template.text(PLAIN)
    except Exception as error:  # templates raise what they like
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unusable(f"its chat template fails on a plain chat: {line}", source) from error
    if PLAIN[1].content not in text:
        raise _unusable("its chat template does not show an answer that is plain text", source)
    try:
        found = [find_answers(template, chat, (), special) for chat in (PLAIN, THOUGHTFUL)]
    except InvalidData as error:
        raise _unusable(f"{error.message}; {_remedy(template, special)}", source) from error
    if not all(answers.spans for answers in found):
        raise _unusable(
            "its chat template marks none of an answer's tokens to be learned: put "
            "{% generation %} and {% endgeneration %} around the answer and its end token",
            source,
        )
    answers = found[0] if found[0].spans[-1] else found[1]
    span = answers.spans[-1]
    if span is None:
        raise _unusable(
            "an adapter would be trained on what is never served: its chat template ends a prompt "
            f"with {opening(template, PLAIN, ())!r}, and no conversation has that before an answer;"
            " make its chat_template open a turn in both the same way",
            source,
        )
    if answers.marked and not _ended(answers, span, special):
        raise _unusable(
            "its chat template leaves the end of a turn outside of {% generation %}, so an "
            "adapter would never learn to stop; move the end token inside",
            source,
        )


def turn_ends(template: Template, special: Sequence[str]) -> tuple[str, ...]:
    """What ends a last answer, an earlier one, and a call where it has an end of its own.

    An end is a token, or several right behind each other. None are looked for where the template
    marks the answers itself.
    """
    chat = PLAIN if _end_of(template, PLAIN, (), special) else THOUGHTFUL
    last = _end_of(template, chat, (), special)
    ends = [] if last is None else [last]
    for messages, tools in (((*chat, chat[0]), ()), (CALLED, ()), (CALLED, (TOOL,))):
        if _end_of(template, messages, tools, ends) is None:
            other = _end_of(template, messages, tools, special)
            # What follows the end of an earlier turn opens the next.
            ends += [] if other is None else [_first(other, special)]
    return tuple(ends)


def shows(template: Template, messages: Sequence[Message], text: str, tools: Tools) -> bool:
    try:
        return text in template.text(messages, tools)
    except Exception:  # templates raise what they like; a row of this sort meets it again
        return False


def _end_of(
    template: Template, messages: Sequence[Message], tools: Tools, ends: Sequence[str]
) -> str | None:
    """The first of `ends` behind the first answer, with those of them right behind it.

    None where there is none, the template fails, or it marks the answers itself.
    """
    try:
        answers = find_answers(template, messages, tools, ends)
    except Exception:  # as in `shows`
        return None
    span = None if answers.marked else answers.spans[0]
    if span is None:
        return None
    end = next(end for end in ends if answers.text[: span[1]].endswith(end))
    rest = answers.text[span[1] :]
    while following := _first(rest, ends):
        end += following
        rest = rest[len(following) :]
    return end


def _first(text: str, ends: Sequence[str]) -> str:
    """The one of `ends` that the text begins with, or nothing."""
    return next((end for end in ends if text.startswith(end)), "")


def _ended(answers: Answers, span: tuple[int, int], special: Sequence[str]) -> bool:
    learned = answers.text[span[0] : span[1]].rstrip()
    return any(learned.endswith(end) for end in special)


def _remedy(template: Template, special: Sequence[str]) -> str:
    earlier = _end_of(template, (*PLAIN, PLAIN[0]), (), special)
    end = _first(earlier or "", special)
    if not end or end in template.text(PLAIN).partition(PLAIN[0].content)[0]:  # it opens turns
        return "write the end token behind each answer in its chat_template"
    return f"write {end} behind the last one too in its chat_template, as behind earlier ones"


def _unusable(problem: str, source: str) -> InvalidConfig:
    return InvalidConfig([f"base: {problem}"], where=source)
