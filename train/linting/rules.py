"""All rules of the lint: name, severity, what each is about, and what finds it.

The rule's functions are in `train/lint_*.py`, a file a subject. `severity` is the worst that a rule
gives: an error refuses training, a warning deserves a look, an info is for knowing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from train.data.rows import Kind
from train.linting import (
    answers,
    duplicates,
    labels,
    pairs,
    pii,
    text,
    turns,
)
from train.linting.facts import Facts
from train.linting.findings import Finding, Severity

MIN_ROWS = 8
# Below this an adapter rarely does better than a good prompt; comparing answers takes more rows.
FEW_ROWS: dict[Kind, int] = {"chat": 50, "preference": 100, "labelled": 100}


@dataclass(frozen=True)
class Rule:
    """`check` is None for rules about rows that can't be read, and about tokens."""

    name: str
    severity: Severity
    about: str
    check: Callable[[Facts], Iterator[Finding]] | None = None
    fixable: bool = False


def too_few_rows(facts: Facts) -> Iterator[Finding]:
    count = len(facts.rows)
    few = FEW_ROWS[facts.dataset.kind] if facts.rows else 0
    if count < MIN_ROWS:
        yield Finding(
            "too-few-rows",
            "error",
            f"{count} row{'' if count == 1 else 's'}; at least {MIN_ROWS} are needed, "
            f"and {few or FEW_ROWS['chat']} or more for a result to be expected",
        )
    elif count < few:
        yield Finding(
            "too-few-rows",
            "warning",
            f"{count} rows; below {few} the adapter rarely does better than a good prompt",
        )


def unused_column(facts: Facts) -> Iterator[Finding]:
    if facts.dataset.unused_columns:
        names = ", ".join(f"`{name}`" for name in facts.dataset.unused_columns[:8])
        yield Finding("unused-column", "info", f"not read as part of a conversation: {names}")


RULES: tuple[Rule, ...] = (
    Rule("malformed-row", "error", "a row can't be read as what the file is"),
    Rule("no-answer", "error", "a conversation that ends with another than the assistant"),
    Rule("empty-answer", "error", "an assistant's turn that says nothing",
         answers.empty_answer),
    Rule("no-trainable-token", "error", "nothing of the row would be learned"),
    Rule("overlong", "error", "more tokens than the base or the run can take (with --base)"),
    Rule("not-rendered", "error", "what the base's chat template leaves out (with --base)"),
    Rule("unserved-answer", "warning", "answers that are read and not learned (with --base)"),
    Rule("cut-away", "warning", "overlong rows of which no answer is left (hub train --overlong)"),
    Rule("too-few-rows", "error", f"fewer than {MIN_ROWS} rows; few for the kind is a warning",
         too_few_rows),
    Rule("leakage", "error", "the question is in the held-out set; nearly so is a warning",
         duplicates.leakage),
    Rule("same-pair", "error", "the chosen and the rejected answer are the same",
         pairs.same_pair),
    Rule("one-label", "error", "KTO labels that are all true, or all false",
         pairs.one_label),
    Rule("template-mark", "error", "marks of a chat template in a text, such as <|im_end|>",
         text.template_mark),
    Rule("conflicting-answers", "warning", "the same question with different answers",
         duplicates.conflicting_answers),
    Rule("label-spelling", "warning", "labels that differ only in case or punctuation",
         labels.label_spelling, fixable=True),
    Rule("label-typo", "warning", "a rare label that looks like a misspelt frequent one",
         labels.label_typo),
    Rule("exact-duplicate", "warning", "a row that is the same as an earlier one",
         duplicates.exact_duplicate, fixable=True),
    Rule("near-duplicate", "warning", "a row that is nearly the same as an earlier one",
         duplicates.near_duplicate),
    Rule("truncated-answer", "warning", "an answer cut off in a sentence, JSON or code",
         answers.truncated_answer),
    Rule("placeholder", "warning", "TODO, lorem ipsum, {{name}}: places that nobody filled in",
         answers.placeholder),
    Rule("refusal", "warning", "boilerplate such as \"As an AI language model\"",
         answers.refusal),
    Rule("echoed-question", "warning", "an answer that repeats the question",
         answers.echoed_question),
    Rule("one-answer", "warning", "most rows have one and the same answer",
         answers.one_answer),
    Rule("turn-order", "warning", "turns that do not alternate, system messages in the middle",
         turns.turn_order),
    Rule("tool-call", "warning", "calls of tools that are not there, or without JSON arguments",
         turns.tool_call),
    Rule("system-spelling", "warning", "system prompts that differ only in whitespace",
         text.system_spelling, fixable=True),
    Rule("damaged-encoding", "warning", "letters that a wrong encoding broke, such as Ã©",
         text.damaged_encoding),
    Rule("control-character", "warning", "control characters that nobody sees",
         text.control_character),
    Rule("length-preference", "warning", "the preferred answer is always the longer one",
         pairs.length_preference),
    Rule("pii", "warning", "card and account numbers, keys; addresses and numbers as info",
         pii.personal_data),
    Rule("few-of-label", "info", "labels with very few rows", labels.few_of_label),
    Rule("language-mix", "info", "a few answers in another language than the rest",
         text.language_mix),
    Rule("stray-whitespace", "info", "texts that begin or end with spaces or line breaks",
         text.stray_whitespace, fixable=True),
    Rule("unused-column", "info", "columns that are not part of a conversation", unused_column),
)  # fmt: skip
