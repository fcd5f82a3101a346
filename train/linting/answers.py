"""The lint's rules about answers: empty, cut off, unfilled, refused, echoed, or all the same.

What may be the task itself (answers that end without punctuation, templates with `{{name}}`, texts
that come back unchanged) is taken for a fault only where a small part of the rows has it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from train.data.normalise import normalised
from train.data.rows import Row
from train.linting.facts import Facts, Taught
from train.linting.findings import Finding

_RARELY = 0.2  # a fault is in at most this share of the rows; more is the task
_MOSTLY = 0.8

_STUBS = frozenset({"todo", "tbd", "xxx", "n/a", "null", "...", "…", "-", "--", "?"})
# Of these, what may be the answer where nothing is to be found, if it comes again and again.
_NOTHING, _NOTHING_ROWS = frozenset({"n/a", "null", "-", "--"}), 5
# What a finished answer does not end with: a letter, a digit, a comma, a dash.
_UNFINISHED = re.compile(r"[\w,;–—-]$")
_CUT_WORDS = 6
_CUT_ANSWER_WORDS, _LAST_LINE_WORDS = 5, 6  # "49 euros", "Kind regards, the shop team" are whole
_ITEM = re.compile(r"(?:[-*•+]|\d{1,3}[.)])[ \t]+")
_CUT_WORD = re.compile(
    r"(?:,|\b(?:and|or|but|the|a|an|of|to|for|with|because|that|which|is|are|your))$", re.I
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"\{\{[ ]?[\w.]{1,40}[ ]?\}\}"  # {{name}}
    r"|\b(?-i:TODO|FIXME|TBD)\b"  # in small letters, `todo` is Spanish
    r"|[Ll]orem ipsum"
    r"|\[(?:insert|your|enter|add)\b[^\]\n]{1,40}\]"  # [Your Name]
    r"|<(?:insert|your|enter)[ _-][^>\n]{1,40}>",
    re.IGNORECASE,
)
_PLACEHOLDER_SIGNS = ("{{", "todo", "fixme", "tbd", "lorem", "[", "<")
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b"
    # What a shop can't do ("I'm sorry, but I can't change the address") is no boilerplate.
    r"|\bi(?: can(?:'t|not)| am (?:unable|not able) to|'m (?:unable|not able) to) "
    r"(?:(?:assist|help)(?: you)? with (?:that|this|your request)\b"
    r"|comply\b|engage in\b|(?:fulfil|answer)l? (?:that|this|your) (?:request|question)"
    r"|provide (?:instructions|assistance|guidance|(?:medical|legal|financial) advice)\b)"
    r"|\bmy (?:knowledge cutoff|training data)\b"
    r"|\bas of my last (?:knowledge |training )?update\b"
    r"|\bopenai'?s? (?:use.case |content |usage )?polic",
    re.IGNORECASE,
)
_REFUSAL_SIGNS = ("as an", "i'm", "i am", "i can", "my ", "openai")
_ECHO_WORDS, _ECHO_START_WORDS = 4, 8
_SAME_SHARE, _SAME_ROWS = 0.5, 20


def empty_answer(facts: Facts) -> Iterator[Finding]:
    blank = _rows(
        answer
        for answer in facts.taught
        if not answer.text.strip() and not answer.message.tool_calls
    )
    if blank:
        yield Finding("empty-answer", "error", "an assistant's turn says nothing", blank)


def truncated_answer(facts: Facts) -> Iterator[Finding]:
    """Three signs, each its own finding; JSON and punctuation are judged by what most rows do."""
    answers = facts.answers
    fences = _rows(answer for answer in answers if answer.text.count("```") % 2)
    if fences:
        yield Finding(
            "truncated-answer", "warning", "a code block is opened and not closed", fences
        )
    broken = _broken_json(answers)
    if broken:
        yield Finding("truncated-answer", "warning", "JSON that does not end", broken)
    told = {id(row) for row in (*fences, *broken)}
    endings = [(answer, answer.text.rstrip()) for answer in answers if not _is_stub(answer.text)]
    open_ended = [answer for answer, text in endings if _UNFINISHED.search(text)]
    if len(open_ended) <= _RARELY * len(answers):
        open_ended = [answer for answer in open_ended if _stops(answer.text.rstrip())]
    else:  # then only words that nothing ends with
        open_ended = [
            answer
            for answer, text in endings
            if _CUT_WORD.search(text) and text.count(" ") >= _CUT_WORDS
        ]
    cut = tuple(row for row in _rows(open_ended) if id(row) not in told)
    if cut and len(cut) <= _RARELY * len(answers):
        yield Finding("truncated-answer", "warning", "the answer stops in mid-sentence", cut)


def _stops(text: str) -> bool:
    """Whether an open end is in a sentence, and not that of a list, link, signature or value."""
    *before, last = [line.strip() for line in text.splitlines() if line.strip()]
    words = last.split()
    if len(words) > 1 and text[-1] in ",–—-":
        return True
    if (item := _ITEM.match(last)) and before and _ITEM.match(before[-1]):
        # Beside items that are sentences: else a list of words.
        return len(words) > 1 and before[-1][-1] in ".!?;," and item[0] != last
    least = _LAST_LINE_WORDS if before else _CUT_ANSWER_WORDS
    return len(words) >= least and "://" not in words[-1]


def _broken_json(answers: Sequence[Taught]) -> tuple[Row, ...]:
    """Rows whose answer begins as JSON and is none, where most that begin so are."""
    begun = [answer for answer in answers if answer.text.lstrip()[0] in "{["]
    broken = [answer for answer in begun if not _is_json(answer.text)]
    return _rows(broken) if len(broken) <= _RARELY * len(begun) else ()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def placeholder(facts: Facts) -> Iterator[Finding]:
    nothing = [answer for answer in facts.answers if answer.text.strip().casefold() in _NOTHING]
    meant = {id(answer) for answer in nothing} if len(nothing) >= _NOTHING_ROWS else set()
    stubs = _rows(
        answer for answer in facts.answers if _is_stub(answer.text) and id(answer) not in meant
    )
    if stubs and len(stubs) <= _RARELY * len(facts.answers):
        yield Finding("placeholder", "warning", "the answer is a placeholder", stubs)
    told = {id(row) for row in stubs}
    found = [
        (row, mark)
        for row, text in zip(facts.rows, facts.texts, strict=True)
        if id(row) not in told and (mark := _unfilled(text)) is not None
    ]
    if found and len(found) <= _RARELY * len(facts.rows):
        marks = ", ".join(f"'{mark}'" for mark in dict.fromkeys(mark for _, mark in found[:3]))
        yield Finding(
            "placeholder",
            "warning",
            f"the text holds a place that nobody filled in, such as {marks}",
            tuple(row for row, _ in found),
        )


def _is_stub(text: str) -> bool:
    return len(text) < 20 and text.strip().casefold() in _STUBS


def _unfilled(text: str) -> str | None:
    """The first placeholder outside of code, where such marks are meant."""
    folded = text.casefold()
    if not any(sign in folded for sign in _PLACEHOLDER_SIGNS):
        return None
    found = _PLACEHOLDER.search(_CODE.sub(" ", text) if "`" in text else text)
    return found[0] if found else None


def refusal(facts: Facts) -> Iterator[Finding]:
    """OpenAI's own field for refusals says that one is meant; those are left alone."""
    found = _rows(
        answer for answer in facts.taught if not answer.message.refusal and _refuses(answer.text)
    )
    if found:
        yield Finding(
            "refusal",
            "warning",
            'the answer is another assistant\'s boilerplate ("As an AI language model…")',
            found,
        )


def _refuses(text: str) -> bool:
    plain = text.replace("’", "'")
    folded = plain.casefold()
    if not any(sign in folded for sign in _REFUSAL_SIGNS):
        return False
    return _REFUSAL.search(plain) is not None


def echoed_question(facts: Facts) -> Iterator[Finding]:
    found = _rows(answer for answer in facts.answers if _echoes(answer))
    if found and len(found) <= _RARELY * len(facts.answers):
        yield Finding(
            "echoed-question", "warning", "the answer repeats the question word for word", found
        )


def _echoes(answer: Taught) -> bool:
    question, text = answer.row.question.strip(), answer.text.strip()
    # Cheap first: nearly all answers differ from their question in the first letters.
    if question[:1].casefold() != text[:1].casefold():
        return False
    asked, said = normalised(question), normalised(text)
    words = asked.count(" ") + 1
    if said == asked:
        return words >= _ECHO_WORDS
    return words >= _ECHO_START_WORDS and said.startswith(f"{asked} ")


def one_answer(facts: Facts) -> Iterator[Finding]:
    """Class imbalance: most rows have one answer, so always giving it is nearly right."""
    counts = Counter(answer.text.strip() for answer in facts.answers)
    if len(facts.answers) < _SAME_ROWS or not counts:
        return
    text, count = counts.most_common(1)[0]
    share = count / len(facts.answers)
    if share < (_MOSTLY if len(text) <= 40 else _SAME_SHARE):
        return
    shown = text if len(text) <= 40 else f"{text[:39]}…"
    yield Finding(
        "one-answer",
        "warning",
        f"{share:.0%} of the rows have one and the same answer, '{shown}': "
        "an adapter that always gives it is nearly right",
    )


def _rows(answers: Iterator[Taught] | Sequence[Taught]) -> tuple[Row, ...]:
    """Each row once, in order."""
    return tuple({id(answer.row): answer.row for answer in answers}.values())
