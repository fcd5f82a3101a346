"""The lint's rules about labels: spelt in several ways, misspelt, or with too few rows.

Labels are read in three forms: tags such as `[Intent: Fraud Report]` anywhere in an answer, fields
of answers that are JSON objects, and answers that are themselves short where most of the set's are.
They count only where they come from a closed set, that is where the same ones come again and again:
names and amounts are no labels.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from train.data.rows import Row
from train.linting.facts import Facts, Taught
from train.linting.findings import Finding

_TAG = re.compile(r"\[([^\W\d_][\w /-]{0,30}):[ \t]*([^\[\]\n]{1,60})\]")
_NOT_WORD = re.compile(r"[\W_]+")
_NOT_LETTER = re.compile(r"\d|[^\w\s]")
_MAX_WORDS = 4
_MAX_LENGTH = 40
_MOSTLY = 0.8

_CLOSED_ROWS, _CLOSED_SHARE, _CLOSED_MOST = 8, 0.25, 100
_TYPO_ROWS, _TYPO_SHARE, _TYPO_LENGTH, _TYPO_ALIKE = 2, 0.1, 5, 0.84
_FEW = 5


@dataclass(frozen=True)
class Labels:
    """One family of labels, such as all `[Intent: …]`.

    `spellings`: the same label, folded -> each spelling of it -> its rows. `mendable` where another
    spelling can be put in the place of one.
    """

    name: str
    spellings: dict[str, dict[str, list[Row]]]
    mendable: bool

    def counts(self) -> Counter[str]:
        """Rows by folded label."""
        return Counter(
            {folded: sum(map(len, ways.values())) for folded, ways in self.spellings.items()}
        )

    @property
    def closed(self) -> bool:
        counts = self.counts()
        return (
            counts.total() >= _CLOSED_ROWS
            and 1 <= len(counts) <= min(_CLOSED_MOST, _CLOSED_SHARE * counts.total())
        )  # fmt: skip


def label_spelling(facts: Facts) -> Iterator[Finding]:
    """One finding for each label that is spelt in more than one way; rows: the rarer spellings."""
    for family in facts_labels(facts):
        for ways in family.spellings.values():
            if len(ways) > 1:
                yield _spelt(ways, family.mendable and usual_spelling(ways) is not None)


def _spelt(ways: dict[str, list[Row]], fixable: bool) -> Finding:
    counts = Counter({spelling: len(rows) for spelling, rows in ways.items()})
    shown = ", ".join(f"'{spelling}' ({count})" for spelling, count in counts.most_common(4))
    usual = counts.most_common(1)[0][0]
    rare = [row for spelling, rows in ways.items() if spelling != usual for row in rows]
    return Finding(
        "label-spelling",
        "warning",
        f"one label is spelt {len(ways)} ways: {shown}",
        _in_order(rare),
        fixable=fixable,
    )


def usual_spelling(ways: dict[str, list[Row]]) -> str | None:
    """The spelling that most rows have; None where no single one leads."""
    counts = Counter({spelling: len(rows) for spelling, rows in ways.items()}).most_common(2)
    return None if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]


def label_typo(facts: Facts) -> Iterator[Finding]:
    """A label of one or two rows that is a letter or two away from one of many.

    Labels that differ in a digit, a sign or a syllable before them, or are very short, are left
    alone: they are meant.
    """
    for family in facts_labels(facts):
        for rare, usual in _typos(family).items():
            rows = [row for rows in family.spellings[rare].values() for row in rows]
            written, meant = (next(iter(family.spellings[name])) for name in (rare, usual))
            yield Finding(
                "label-typo",
                "warning",
                f"'{written}' ({len(rows)}) looks like a misspelt '{meant}' "
                f"({family.counts()[usual]})",
                _in_order(rows),
            )


def _typos(family: Labels) -> dict[str, str]:
    """Rare label -> the frequent one that it looks like."""
    counts = family.counts()
    typos: dict[str, str] = {}
    for rare, few in counts.items():
        if few <= _TYPO_ROWS and len(rare) >= _TYPO_LENGTH:
            likely = [name for name, count in counts.items() if few <= _TYPO_SHARE * count]
            meant = max(likely, key=lambda name: _alike(rare, name), default=None)
            if meant is not None and _alike(rare, meant) >= _TYPO_ALIKE:
                typos[rare] = meant
    return typos


def _alike(one: str, other: str) -> float:
    if _NOT_LETTER.findall(one) != _NOT_LETTER.findall(other):
        return 0.0
    short, long = sorted((one, other), key=len)
    if long.endswith(short) and len(long) > len(short) + 1:  # active, inactive
        return 0.0
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def few_of_label(facts: Facts) -> Iterator[Finding]:
    """Too few rows for one of the labels, where each is to be told from the others."""
    for family in facts_labels(facts):
        counts, typos = family.counts(), _typos(family)
        few = [folded for folded, count in counts.items() if count < _FEW and folded not in typos]
        if not few or len(counts) < 2:
            continue
        shown = ", ".join(
            f"'{next(iter(family.spellings[folded]))}' ({counts[folded]})" for folded in few[:4]
        )
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        yield Finding(
            "few-of-label",
            "info",
            f"labels with fewer than {_FEW} rows are hardly learned: {shown}{more}",
            _in_order(
                row for folded in few for rows in family.spellings[folded].values() for row in rows
            ),
        )


def facts_labels(facts: Facts) -> list[Labels]:
    """Every closed family of labels in the answers that the set teaches."""
    answers = facts.answers
    tags = _tags(answers)
    families = [Labels(name, ways, True) for name, ways in sorted(tags.items())] + [
        Labels(name, ways, False) for name, ways in sorted(_fields(answers).items())
    ]
    short = [answer for answer in answers if _is_short(answer.text)]
    if short and len(short) >= _MOSTLY * len(answers):
        ways = _ways()
        for answer in short:
            if not _TAG.search(answer.text):
                ways[folded(answer.text)][answer.text.strip()].append(answer.row)
        families.append(Labels("answer", ways, True))
    return [family for family in families if family.closed]


def _ways() -> dict[str, dict[str, list[Row]]]:
    return defaultdict(lambda: defaultdict(list))


def _tags(answers: list[Taught]) -> dict[str, dict[str, dict[str, list[Row]]]]:
    found: dict[str, dict[str, dict[str, list[Row]]]] = defaultdict(_ways)
    for answer in answers:
        if "[" in answer.text:
            for tag in _TAG.finditer(answer.text):
                found[folded(tag[1])][folded(tag[0])][tag[0]].append(answer.row)
    return found


def _fields(answers: list[Taught]) -> dict[str, dict[str, dict[str, list[Row]]]]:
    """Fields of JSON answers, less values that were copied from the question as they stand."""
    found: dict[str, dict[str, dict[str, list[Row]]]] = defaultdict(_ways)
    for answer in answers:
        if not answer.text.lstrip().startswith("{"):
            continue
        try:
            facts = json.loads(answer.text)
        except (ValueError, RecursionError):
            continue
        for name, value in facts.items():
            if isinstance(value, str) and _is_short(value) and value not in answer.row.question:
                found[name][folded(value)][value].append(answer.row)
    return found


def _is_short(answer: str) -> bool:
    text = answer.strip()
    return 0 < len(text) <= _MAX_LENGTH and len(text.split()) <= _MAX_WORDS


def folded(label: str) -> str:
    """A label without case and punctuation; one that is all punctuation keeps its spelling.

    Signs that make another label of it stay: <5 is not >5, -1 not 1, A- not A, C++ not C, 1.5 not
    1/5, and a label with a smile not the one without.
    """
    return _NOT_WORD.sub(_signs, label.casefold()).strip() or label.strip()


def _signs(found: re.Match[str]) -> str:
    """What counts of the marks between two words, else a space."""
    marks, text = found[0], found.string
    before, after = text[: found.start()][-1:], text[found.end() :][:1]
    if len(marks) == 1 and before.isdigit() and after.isdigit():
        return marks
    kept = [mark for mark in marks if _is_sign(mark)]
    if marks[-1] == "-" and after.isdigit() and (len(marks) > 1 or not before):
        kept.append("-")
    elif before and marks[0] in "-#" and not after and marks[1:2] in ("", "]", ")"):
        kept.append(marks[0])
    return f" {''.join(kept)} " if kept else " "


def _is_sign(mark: str) -> bool:
    """Comparison, arithmetic, currencies, pictures; a bar is the border of a table."""
    return mark in "%&" or (unicodedata.category(mark) in ("Sm", "Sc", "So") and mark != "|")


def _in_order(rows: Iterator[Row] | list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.file, row.number)))
