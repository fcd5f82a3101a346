"""Rows as tokens, and which of them are learned: what the base's chat template makes of a row.

The tokens are those of the base's own template, byte for byte what a server renders. Only the
assistant's are trained on, the end of each turn included (`train.templates.answers` finds them),
and only where what stands before an answer is what a server would put there. A template that would
train on nothing, or never teach the model to stop, is refused (`train.templates.check`).

The same encoding serves the lint, the trainer and the samples, so what is counted is what is
trained on. What a row says and a template would leave out is refused, never dropped: tools and
calls that the template does not render, and `weight` 0 where turns can't be told apart.

Importing this module imports no library; loading a tokenizer does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hub.errors import BaseError, InvalidData
from train.data.rows import Message, Row
from train.runtime import quiet
from train.templates.answers import Answers, Span, find_answers, opening
from train.templates.check import (
    CALLED,
    PLAIN,
    TOOL,
    TOOL_NAME,
    require_trainable,
    shows,
    turn_ends,
)
from train.templates.template import Template, Tools


@dataclass(frozen=True)
class Encoded:
    """A row's token ids, and for each whether the loss is taken on it.

    `unserved` counts the answers that are read only, because they don't stand as they are served.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    unserved: int = 0

    def cut(self, length: int | None) -> "Encoded":
        """The first `length` tokens; None is all."""
        return Encoded(self.ids[:length], self.trained[:length], self.unserved)


class ChatTokenizer:
    """A base's tokenizer with its chat template, which rows are trained under."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._template = Template(tokenizer)

    @classmethod
    def load(cls, source: str) -> "ChatTokenizer":
        """Load the tokenizer of a base's folder, and make sure that it can be trained with.

        Raises:
            BaseError: when there is no tokenizer, or it has no chat template.
            InvalidConfig: when the template would train on nothing, not on the end of a turn, or
                not on what is served.
        """
        from transformers import AutoTokenizer

        if not Path(source).is_dir():  # transformers would take it for a name on the Hub
            raise BaseError(
                "the base's folder is gone",
                where=source,
                hint="Put it back, or add the base again from where it is: `hub base add FOLDER`.",
            )
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise BaseError(
                f"its tokenizer can't be loaded: {_first_line(error)}", where=source
            ) from error
        return cls.of(tokenizer, source)

    @classmethod
    def of(cls, tokenizer: Any, source: str) -> "ChatTokenizer":
        """As `load`, with the tokenizer that is loaded already; `source` is for the messages."""
        if not getattr(tokenizer, "chat_template", None):
            raise BaseError(
                "the base has no chat template, so chats can't be trained on",
                where=source,
                hint="Use the instruct or chat variant of the model.",
            )
        if not getattr(tokenizer, "is_fast", False):
            raise BaseError(
                "its tokenizer does not say which characters a token stands for, so an answer's "
                "tokens can't be told",
                where=source,
                hint="Use a variant of the model that has a tokenizer.json.",
            )
        chat = cls(tokenizer)
        with quiet():
            require_trainable(chat._template, chat._special, source)
        return chat

    def encode(self, row: Row) -> Encoded:
        """The row's tokens under the template; raises what the template raises.

        Raises:
            InvalidData: when the template would leave out what the row has, can't honour a weight
                of 0, or puts no answer where it is served.
        """
        where = f"{row.file}, row {row.number}"
        self._refuse_unrendered(row, where)
        try:
            answers = find_answers(self._template, row.messages, row.tools, self._ends)
        except InvalidData as error:
            raise InvalidData(error.message, where=where, hint=error.hint) from error
        spans = self._learned(row, answers, where)
        ids, trained = self._tokens(answers.text, [span for span in spans if span])
        return Encoded(ids, trained, spans.count(None))

    def count(self, row: Row, cut: int | None = None) -> tuple[int, int, int]:
        """(tokens, trained tokens, answers that are only read) for the lint.

        Of the trained ones those among the first `cut` tokens. All are 0 where the template
        refuses the row.
        """
        from jinja2 import TemplateError

        try:
            encoded = self.encode(row)
        except (TemplateError, ValueError, TypeError):
            return 0, 0, 0
        return len(encoded.ids), sum(encoded.trained[:cut]), encoded.unserved

    def prompt_text(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """What the model is given to answer: the base's own template, as a server renders it."""
        return self._template.prompt(messages, tools)

    def _learned(self, row: Row, answers: Answers, where: str) -> list[Span | None]:
        """Spans of the answers that are to be learned; None for one that is not served so."""
        said = [message for message in row.messages if message.role == "assistant"]
        if not answers.told_apart:
            if all(message.learned for message in said):
                return list(answers.spans)
            raise InvalidData(
                f"the base's chat template marks {len(answers.spans)} answers of the {len(said)} "
                "that the row has, so which of them has weight 0 can't be told",
                where=where,
                hint="Leave the weights out, or the turns that have them.",
            )
        wanted = [span for one, span in zip(said, answers.spans, strict=True) if one.learned]
        if wanted and not any(wanted):
            ending = opening(self._template, row.messages, row.tools)
            raise InvalidData(
                "no answer of the row stands as it is served: the base's chat template leaves out "
                "its thoughts, or what it has before the answer is not what it has in a prompt"
                + (f", which ends with {ending!r}" if ending else ""),
                where=where,
                hint="A reasoning base may want its thoughts in <think>…</think> before an answer, "
                "another wants none; else leave these rows out.",
            )
        return wanted

    def _tokens(self, text: str, spans: Sequence[Span]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Tokens of the text as a server cuts it; marked are those with a character in a span."""
        # What it would say of texts longer than the model's context is the lint's to say.
        made = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        trained = [False] * len(made["input_ids"])
        left = sorted(spans, reverse=True)
        for at, (start, end) in enumerate(made["offset_mapping"]):
            while left and left[-1][1] <= start:
                left.pop()
            trained[at] = bool(left) and left[-1][0] < max(end, start + 1)
        return tuple(made["input_ids"]), tuple(trained)

    def _refuse_unrendered(self, row: Row, where: str) -> None:
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
                where=where,
                hint="Train on a base whose template knows tools, or leave these rows out.",
            )

    @cached_property
    def _renders(self) -> tuple[bool, bool, bool]:
        """Whether the template shows tools, calls of tools, and their answers."""
        return (
            shows(self._template, PLAIN, TOOL_NAME, [TOOL]),
            shows(self._template, CALLED, TOOL_NAME, []),
            shows(self._template, CALLED, CALLED[2].content, []),
        )

    @cached_property
    def _special(self) -> tuple[str, ...]:
        """The texts of all tokens that are marks and not words."""
        added = self.tokenizer.added_tokens_decoder.values()
        texts = {token.content for token in added if token.special}
        return tuple(sorted(texts | set(self.tokenizer.all_special_tokens)))

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        return turn_ends(self._template, self._special)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
