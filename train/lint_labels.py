"""The lint's rule about labels that differ only in case or punctuation.

Labels are read in two forms: tags such as `[Intent: Fraud Report]` anywhere in an answer, and
answers that are themselves short, where most of the set's answers are.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from train.findings import Finding
from train.rows import Row

_TAG = re.compile(r"\[([^\W\d_][\w /-]{0,30}):[ \t]*([^\[\]\n]{1,60})\]")
_NOT_WORD = re.compile(r"[\W_]+")
_MAX_WORDS = 4
_MAX_LENGTH = 40
_MOSTLY = 0.8

# The same label, folded -> each spelling of it -> its rows.
_Spellings = dict[str, dict[str, list[Row]]]


def label_spelling(rows: Sequence[Row]) -> Iterator[Finding]:
    """One finding for each label that is spelt in more than one way; rows: the rarer spellings."""
    spellings: _Spellings = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for tag in _TAG.finditer(row.answer):
            spellings[_folded(tag[0])][tag[0]].append(row)
    short = [row for row in rows if _is_short(row.answer)]
    if len(short) >= _MOSTLY * len(rows):
        for row in short:
            if not _TAG.search(row.answer):
                spellings[_folded(row.answer)][row.answer.strip()].append(row)
    for variants in spellings.values():
        if len(variants) > 1:
            yield _finding(variants)


def _finding(variants: dict[str, list[Row]]) -> Finding:
    counts = Counter({spelling: len(rows) for spelling, rows in variants.items()})
    shown = ", ".join(f"'{spelling}' ({count})" for spelling, count in counts.most_common(4))
    usual = counts.most_common(1)[0][0]
    rare = [row for spelling, rows in variants.items() if spelling != usual for row in rows]
    return Finding(
        "label-spelling",
        "warning",
        f"one label is spelt {len(variants)} ways: {shown}",
        tuple(sorted(rare, key=lambda row: (row.file, row.number))),
    )


def _is_short(answer: str) -> bool:
    text = answer.strip()
    return 0 < len(text) <= _MAX_LENGTH and len(text.split()) <= _MAX_WORDS


def _folded(label: str) -> str:
    """'' would join labels that are all symbols, so those keep their spelling."""
    return _NOT_WORD.sub(" ", label.casefold()).strip() or label.strip()
