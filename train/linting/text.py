"""The lint's rules about what stands in a text but does not belong there.

Marks of chat templates, damage from a wrong encoding, control characters, stray whitespace, system
prompts that differ in nothing else, and a few rows in another script or language than the rest.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

from train.data.rows import Message, Row
from train.linting.facts import Facts, Taught
from train.linting.findings import Finding

_RARELY = 0.1
_LANGUAGE_ROWS = 20

_MARK = re.compile(
    r"<\|[A-Za-z_]{2,30}\|>"  # <|im_end|>, <|eot_id|>, <|assistant|>
    r"|</?(?:start|end)_of_turn>|<(?:bos|eos|pad)>|\[/?INST\]|<</?SYS>>"
    r"|^### ?(?:Instruction|Response|Human|Assistant|Input):",
    re.MULTILINE,
)
_MARK_SIGNS = ("<", "[/", "[I", "###")
_NEXT_TURN = re.compile(r"^(?:Human|User|USER): ", re.MULTILINE)
# UTF-8 that was read as Latin-1 or Windows-1252, once or twice, and what a failed reading leaves.
_DAMAGED = re.compile(
    "[\u00c3\u00c2][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013\u2014\u2018-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
    "|\u00e2\u20ac[\u0080-\u00bf\u0153\u2122\u201c\u201d\u02dc\u00a6\u2018-\u201e\u00a2]?"
    "|\u00f0\u0178|\ufffd"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\ufffb\u202a-\u202e]")
_SCRIPTS = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "Cyrillic": re.compile("[\u0400-\u052f]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Devanagari": re.compile("[\u0900-\u097f]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
    "Hangul": re.compile("[\uac00-\ud7af]"),
    "Chinese or Japanese": re.compile("[\u3040-\u30ff\u3400-\u9fff]"),
}
_WORD = re.compile(r"[^\W\d_]+")
# Function words that the other languages do not have; five of them in a text are no accident.
_FUNCTION_WORDS = {
    "English": "the and of you that with this have are was will your from they would",
    "German": "und der das nicht ist ein eine ich sie mit auf für wird sind haben",
    "French": "les est vous pour dans une que pas avec sur votre être nous cette sont",
    "Spanish": "los las por para una que con del está usted como pero muy sus esta",
    "Italian": "che per con una sono della non gli più questo nel alla anche come ha",
    "Portuguese": "não uma com para que você está dos das mais seu sua por são muito",
    "Dutch": "het een van niet zijn voor met dat wordt deze ook naar aan bij heeft",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_KNOWN = frozenset().union(*_LANGUAGES.values())
_SURE = 5


def template_mark(facts: Facts) -> Iterator[Finding]:
    """An error where the base is known to read the mark as a control token, else a warning."""
    own = tuple(token for token in facts.special_tokens if len(token) > 2)
    certain: dict[int, str] = {}
    likely: dict[int, str] = {}
    for at, text in enumerate(facts.texts):
        token = next((token for token in own if token in text), None)
        if token is not None:
            certain[at] = token
        elif (mark := _mark(text)) is not None:
            likely[at] = mark
    for answer, at in _answers_at(facts):
        if at not in certain and at not in likely and ": " in answer.text:
            found = _NEXT_TURN.search(answer.text)
            if found:
                likely[at] = found[0].strip()
    if certain:
        yield Finding(
            "template-mark",
            "error",
            f"the text holds {_shown(certain)}, which the base reads as the end or start of a turn",
            tuple(facts.rows[at] for at in certain),
        )
    if likely:
        yield Finding(
            "template-mark",
            "warning",
            f"the text holds {_shown(likely)}, which is a chat template's work and not the text's",
            tuple(facts.rows[at] for at in sorted(likely)),
        )


def _answers_at(facts: Facts) -> Iterator[tuple[Taught, int]]:
    places = {id(row): at for at, row in enumerate(facts.rows)}
    return ((answer, places[id(answer.row)]) for answer in facts.taught)


def _mark(text: str) -> str | None:
    if not any(sign in text for sign in _MARK_SIGNS):
        return None
    found = _MARK.search(text)
    if found is None and text.rstrip().endswith("</s>") and "<s>" not in text:  # else it is HTML
        return "</s>"
    return found[0].strip() if found else None


def _shown(found: dict[int, str]) -> str:
    return ", ".join(f"'{mark}'" for mark, _ in Counter(found.values()).most_common(3))


def damaged_encoding(facts: Facts) -> Iterator[Finding]:
    found = _holding(facts, _DAMAGED)
    if found:
        yield Finding(
            "damaged-encoding",
            "warning",
            f"letters were broken by a wrong encoding, such as '{found[0][1]}'",
            tuple(row for row, _ in found),
        )


def control_character(facts: Facts) -> Iterator[Finding]:
    found = _holding(facts, _CONTROL)
    if found:
        names = Counter(f"U+{ord(mark):04X}" for _, mark in found)
        shown = ", ".join(name for name, _ in names.most_common(3))
        yield Finding(
            "control-character",
            "warning",
            f"the text holds control characters that nobody sees: {shown}",
            tuple(row for row, _ in found),
        )


def _holding(facts: Facts, pattern: re.Pattern[str]) -> list[tuple[Row, str]]:
    pairs = zip(facts.rows, facts.texts, strict=True)
    return [(row, found[0]) for row, text in pairs if (found := pattern.search(text))]


def stray_whitespace(facts: Facts) -> Iterator[Finding]:
    found = tuple(
        row
        for row in facts.rows
        if any(trimmed_message(m) != m for m in (*row.messages, *row.rejected))
    )
    if found:
        yield Finding(
            "stray-whitespace",
            "info",
            "a text begins or ends with spaces or line breaks, or has Windows line ends",
            found,
            fixable=True,
        )


def trimmed(text: str) -> str:
    """What `stray-whitespace` wants a text to be; one that is all blank is `empty-answer`'s."""
    return (text.replace("\r\n", "\n") if "\r" in text else text).strip(" \t\r\n") or text


def trimmed_message(message: Message) -> Message:
    """The message with a trimmed text; one that was joined, with each of its texts trimmed."""
    if message.joined_from is None:
        text = trimmed(message.content)
        return message if text == message.content else replace(message, content=text)
    texts = instruction, given = trimmed(message.joined_from[0]), trimmed(message.joined_from[1])
    if texts == message.joined_from:
        return message
    return replace(message, content=f"{instruction}\n\n{given}", joined_from=texts)


def system_spelling(facts: Facts) -> Iterator[Finding]:
    for usual, others in system_spellings(facts.rows).items():
        rows = tuple(sorted((row for rows in others.values() for row in rows), key=_place))
        yield Finding(
            "system-spelling",
            "warning",
            f"a system prompt is written {len(others) + 1} ways that differ only in spaces and "
            f"line breaks: '{_short(usual)}'",
            rows,
            fixable=True,
        )


def system_spellings(rows: tuple[Row, ...]) -> dict[str, dict[str, list[Row]]]:
    """Usual text of a system prompt -> its other spellings -> their rows."""
    spelt: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    words: dict[str, str] = {}
    for row in rows:
        first = row.messages[0]
        if first.role == "system":
            if first.content not in words:
                words[first.content] = " ".join(first.content.split())
            spelt[words[first.content]][first.content].append(row)
    found: dict[str, dict[str, list[Row]]] = {}
    for variants in spelt.values():
        if len(variants) > 1:
            usual = max(variants, key=lambda text: (len(variants[text]), text))
            found[usual] = {text: rows for text, rows in variants.items() if text != usual}
    return found


def language_mix(facts: Facts) -> Iterator[Finding]:
    """A few answers in another script, or by their function words in another language."""
    spoken = [(answer.row, language) for answer in facts.answers if (language := _language(answer))]
    counts = Counter(language for _, language in spoken)
    if len(spoken) < _LANGUAGE_ROWS:
        return
    usual = counts.most_common(1)[0][0]
    odd = tuple(row for row, language in spoken if language != usual)
    if odd and len(odd) <= _RARELY * len(spoken):
        others = ", ".join(language for language in counts if language != usual)
        yield Finding("language-mix", "info", f"the answers are {usual}, these are {others}", odd)


def _language(answer: Taught) -> str | None:
    text = answer.text[:600]
    if not text.isascii():
        script = max(_SCRIPTS, key=lambda name: len(_SCRIPTS[name].findall(text)))
        if script != "Latin":
            return script if _SCRIPTS[script].search(text) else None
    words = [word for word in _WORD.findall(text.casefold()) if word in _KNOWN]
    if len(words) < _SURE:
        return None
    counts = {name: sum(word in known for word in words) for name, known in _LANGUAGES.items()}
    first, second = sorted(counts, key=lambda name: counts[name], reverse=True)[:2]
    return first if counts[first] >= _SURE and counts[first] >= 2 * counts[second] else None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def _place(row: Row) -> tuple[str, int]:
    return row.file, row.number
