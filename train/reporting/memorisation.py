"""Does the tuned model repeat what it was trained on, word for word, where it should not?

Two figures, over greedy answers to prompts:

    passages  the share of outputs with a stretch that one training answer has verbatim and no other
              row has, of at least 50 tokens: the length by which "Quantifying Memorization Across
              Neural Language Models" (Carlini et al., arXiv 2202.07646, section 3) and
              "Deduplicating Training Data" (Lee et al., arXiv 2107.06499) define it
    answers   the share of outputs to unseen prompts that are from end to end the answer of one
              training row, of 16 tokens or more, and not what the data says here

What is the task itself counts as neither: an answer under 50 (under 16) tokens such as a label,
wording that several rows share, and what was copied from the prompt (`train.reporting.overlap`).
Prompts are training rows' own, which show what can be drawn out by those who know them, and unseen
ones, which show what comes out unasked. For these the data's own answers are measured likewise:
texts of one kind repeat each other, and what the data does too is no memorisation.

Absent on purpose: sampling at a temperature, and attacks that look for prompts.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from train.data.rows import Message, Row
from train.reporting.answering import answers
from train.reporting.overlap import WINDOW, Overlap, longest_overlaps
from train.templates.tokens import ChatTokenizer

PASSAGE = 50
MOST_EXAMPLES = 5
_LEAST_NEW, _MOST_NEW, _SPARE = 32, 128, 16
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Repeated:
    """An output with a stretch of a training answer; `repeated` is that stretch.

    `row` was asked, `source` has the answer `answer`. `own` counts the stretch's tokens that
    stand in no other row.
    """

    row: Row
    source: Row
    seen: bool
    output: str
    answer: str
    repeated: str
    tokens: int
    own: int

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt_of": {"file": self.row.file, "row": self.row.number, "trained_on": self.seen},
            "question": self.row.question,
            "output": self.output,
            "answer_of": {"file": self.source.file, "row": self.source.number},
            "answer": self.answer,
            "repeated": self.repeated,
            "tokens": self.tokens,
            "own_tokens": self.own,
        }


@dataclass(frozen=True)
class Memorised:
    """What was measured; `facts` holds no text of the data, `worst` does."""

    facts: dict[str, Any]
    worst: tuple[Repeated, ...]


@dataclass(frozen=True)
class _Asked:
    rows: Sequence[Row]
    outputs: Sequence[str]
    seen: bool


class TrainingAnswers:
    """The training rows' answers as tokens, one after another; a row may have several."""

    def __init__(self, chat: ChatTokenizer, rows: Sequence[Row]) -> None:
        self._chat = chat
        self.pieces = [(row, text) for row in rows for text in _learned(row)]
        self.longest = self.comparable = 0
        self.long_rows: list[Row] = []
        for (row, _), tokens in zip(self.pieces, self, strict=True):
            self.longest = max(self.longest, len(tokens))
            self.comparable += len(tokens) >= WINDOW
            if len(tokens) >= PASSAGE:
                self.long_rows.append(row)

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self.pieces), _AT_ONCE):
            texts = [text for _, text in self.pieces[first : first + _AT_ONCE]]
            yield from tokens_of(self._chat, texts)

    @property
    def most_new(self) -> int:
        """How long an output need be: a little more than any answer, within what time allows."""
        return min(_MOST_NEW, max(_LEAST_NEW, self.longest + _SPARE))


def memorised(
    model: Any,
    chat: ChatTokenizer,
    training: TrainingAnswers,
    trained: Sequence[Row],
    unseen: Sequence[Row],
    outputs: Sequence[str],
) -> Memorised:
    """Compare the model's `outputs` to `unseen` rows, and its answers to `trained` ones.

    `trained` are rows with an answer that is long enough to be a passage, if there are any.
    """
    began = time.monotonic()
    asked = [_Asked(unseen, outputs, seen=False)]
    if trained:
        said = answers(model, chat, trained, training.most_new)
        asked.append(_Asked(trained, said, seen=True))
    return _compared(chat, training, asked, began)


def _compared(
    chat: ChatTokenizer, training: TrainingAnswers, asked: Sequence[_Asked], began: float
) -> Memorised:
    texts = [text for group in asked for text in group.outputs]
    rows = [row for group in asked for row in group.rows]
    seen = [group.seen for group in asked for _ in group.rows]
    unseen = [row for row, known in zip(rows, seen, strict=True) if not known]
    data = [row.answer.strip() for row in unseen]
    # What the data says to unseen prompts goes along: it is what outputs are held against.
    tokens = tokens_of(chat, [*texts, *data])
    prompts = tokens_of(chat, [chat.prompt_text(row.prompt, row.tools) for row in [*rows, *unseen]])
    found = (
        longest_overlaps(tokens, prompts, training)
        if training.comparable
        else [None] * (len(texts) + len(data))
    )
    kept, own = found[: len(texts)], found[len(texts) :]
    worst = [
        _repeated(chat, training, row, known, text, ids, overlap)
        for row, known, text, ids, overlap in zip(
            rows, seen, texts, tokens[: len(texts)], kept, strict=True
        )
        if overlap is not None and (_is_passage(overlap) or _is_given(overlap, row, text, known))
    ]
    worst.sort(key=lambda one: (one.seen, -one.own))
    facts = {
        "passage_tokens": PASSAGE,
        "answer_tokens": WINDOW,
        "training_answers": len(training.pieces),
        "long_answers": len(training.long_rows),
        "longest_answer": training.longest,
        "most_new_tokens": training.most_new,
        "unseen": _group_facts(kept, seen, False),
        "trained": _group_facts(kept, seen, True),
        "in_the_data": sum(map(_is_passage, own)),
        "whole_answers": sum(
            _is_given(overlap, row, text, known)
            for overlap, row, text, known in zip(kept, rows, texts, seen, strict=True)
        ),
        "seconds": round(time.monotonic() - began, 2),
    }
    return Memorised(facts, _spread(worst))


def _group_facts(
    found: Sequence[Overlap | None], seen: Sequence[bool], wanted: bool
) -> dict[str, int]:
    """Of some outputs: how many there are, how many have a passage, and the longest overlap."""
    group = [overlap for overlap, known in zip(found, seen, strict=True) if known is wanted]
    return {
        "outputs": len(group),
        "passages": sum(map(_is_passage, group)),
        "longest": max((overlap.tokens for overlap in group if overlap), default=0),
    }


def _is_passage(overlap: Overlap | None) -> bool:
    return overlap is not None and overlap.own >= PASSAGE


def _is_given(overlap: Overlap | None, row: Row, output: str, seen: bool) -> bool:
    """Whether an unseen prompt got one training row's whole answer, which is not its own."""
    return overlap is not None and overlap.whole and not seen and output != row.answer.strip()


def _repeated(
    chat: ChatTokenizer,
    training: TrainingAnswers,
    row: Row,
    seen: bool,
    output: str,
    ids: Sequence[int],
    overlap: Overlap,
) -> Repeated:
    source, answer = training.pieces[overlap.answer]
    stretch = str(chat.tokenizer.decode(ids[overlap.start : overlap.end])).strip()
    return Repeated(row, source, seen, output, answer, stretch, overlap.tokens, overlap.own)


def _spread(worst: Sequence[Repeated]) -> tuple[Repeated, ...]:
    """The first few, no training answer twice."""
    by_source = {(one.source.file, one.source.number): one for one in reversed(worst)}
    kept = [one for one in worst if by_source[one.source.file, one.source.number] is one]
    return tuple(kept[:MOST_EXAMPLES])


def _learned(row: Row) -> list[str]:
    """The texts of a row that training makes likelier."""
    if row.kind == "chat":
        said = [message for message in row.messages if message.learned]
    else:
        said = [message for message in row.completion if _is_answer(message)]
    return [message.content.strip() for message in said if message.content.strip()]


def _is_answer(message: Message) -> bool:
    return message.role == "assistant"


def tokens_of(chat: ChatTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Each text by itself, so that equal texts have equal tokens wherever they stood."""
    if not texts:
        return []
    ids: list[list[int]] = chat.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids
