"""Preference pairs without a prompt of their own: what both answers begin with is the prompt.

So does TRL (`trl.data_utils.extract_prompt`). Three things differ from it, for the sake of chats:
text is cut between words and never within one, the blanks there are neither the prompt's nor the
answers' (a model would learn to begin with them), and a transcript of `Human:` and `Assistant:`
turns, as in Anthropic's hh-rlhf, is read as the turns that it is.
"""

import re

from train.data.formats_chat import Conversation, RowFault
from train.data.rows import Message

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
_ROLE = {"Human": "user", "Assistant": "assistant"}
Parts = tuple[list[Message], list[Message], list[Message]]


def implicit_prompt(chosen: object, rejected: object, reader: Conversation) -> Parts:
    """Prompt, chosen and rejected answer, from two conversations or two texts.

    Raises:
        RowFault: when they have no beginning in common, or nothing else.
    """
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return _divided(reader.chat(chosen, "chosen"), reader.chat(rejected, "rejected"))
    if _SPEAKER.match(chosen) and _SPEAKER.match(rejected):
        return _divided(_transcript(chosen), _transcript(rejected))
    return _divided_text(chosen, rejected)


def _divided(good: list[Message], bad: list[Message]) -> Parts:
    same = 0
    while same < min(len(good), len(bad)) and good[same] == bad[same]:
        same += 1
    if same == len(good) or same == len(bad):
        raise RowFault("the chosen and the rejected answer are the same")
    if same == 0:
        raise RowFault("there is no `prompt`, and `chosen` and `rejected` do not begin with one")
    return good[:same], good[same:], bad[same:]


def _transcript(text: str) -> list[Message]:
    _, *parts = _SPEAKER.split(text)
    speakers, said = parts[::2], parts[1::2]
    return [Message(_ROLE[who], what) for who, what in zip(speakers, said, strict=True)]


def _divided_text(chosen: str, rejected: str) -> Parts:
    if chosen == rejected:
        raise RowFault("the chosen and the rejected answer are the same")
    pairs = enumerate(zip(chosen, rejected, strict=False))
    end = next((at for at, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    # Back to the blank before the word in which they part.
    while end and not chosen[end - 1 : end].isspace():
        end -= 1
    prompt = chosen[:end].rstrip()
    if not prompt:
        raise RowFault("there is no `prompt`, and `chosen` and `rejected` do not begin with one")
    start = len(prompt)
    return (
        [Message("user", prompt)],
        [Message("assistant", chosen[start:].lstrip())],
        [Message("assistant", rejected[start:].lstrip())],
    )
