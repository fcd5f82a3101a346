"""The search for repeated text: exact against brute force, and blind to what is no memorisation."""

import random
import tracemalloc
from collections.abc import Iterator

import numpy as np

from train.reporting.overlap import COMMON, WINDOW, longest_overlaps


def tokens(count: int, seed: int) -> list[int]:
    made = random.Random(seed)
    return [made.randrange(50_000) for _ in range(count)]


def brute_force(output: list[int], answers: list[list[int]]) -> int:
    """The longest common substring, by the textbook's table."""
    longest = 0
    for answer in answers:
        row = [0] * (len(answer) + 1)
        for token in output:
            row = [0] + [row[at] + 1 if token == other else 0 for at, other in enumerate(answer)]
            longest = max(longest, *row)
    return longest


def test_the_longest_overlap_is_what_brute_force_finds() -> None:
    """Outputs spliced of answers' pieces at random: the same length, or None under 16 tokens."""
    made = random.Random(0)
    answers = [tokens(made.randrange(5, 90), seed) for seed in range(40)]
    outputs = []
    for _ in range(60):
        output: list[int] = []
        for _ in range(made.randrange(1, 4)):
            answer = made.choice(answers)
            start = made.randrange(len(answer))
            output += answer[start : start + made.randrange(1, 60)]
            output += tokens(made.randrange(3), made.randrange(10_000))
        outputs.append(output)
    found = longest_overlaps(outputs, [[] for _ in outputs], answers)
    expected = [brute_force(output, answers) for output in outputs]
    assert [one.tokens if one else 0 for one in found] == [
        length if length >= WINDOW else 0 for length in expected
    ]
    assert sum(length >= WINDOW for length in expected) > 20
    for output, overlap in zip(outputs, found, strict=True):
        if overlap:
            stretch = " ".join(map(str, output[overlap.start : overlap.end]))
            assert stretch in " ".join(map(str, answers[overlap.answer]))


def test_what_is_the_task_itself_is_not_a_rows_own() -> None:
    """Shared wording, an answer of several rows and text of the prompt leave no own tokens."""
    template, secret, copied = tokens(60, 1), tokens(60, 2), tokens(60, 3)
    many = [[*template, *tokens(30, 100 + at)] for at in range(3 * COMMON)]
    answers = [*many, secret, copied, secret[:40] + tokens(9, 4), template, template]
    outputs = [template, copied, [*template, *secret], secret, many[-1]]
    prompts = [[], [7, *copied], [], [], []]
    shared, prompt, both, partly, last = longest_overlaps(outputs, prompts, answers)
    assert shared
    assert (shared.tokens, shared.own, shared.whole) == (60, 0, False)
    assert prompt
    assert (prompt.tokens, prompt.own) == (60, 0)
    assert both
    assert (both.tokens, both.own, both.answer) == (60, 20, len(many))
    assert partly
    assert (partly.own, partly.whole) == (20, True)
    assert last
    assert (last.tokens, last.own, last.answer) == (90, 30, len(many) - 1)


def test_memory_does_not_grow_with_the_answers() -> None:
    """A thousand long answers pass by in under a tenth of what their tokens would take."""
    block = np.random.default_rng(5).integers(0, 50_000, 4_000)

    def passing() -> Iterator[list[int]]:
        for at in range(1_000):
            yield [at, *block[at : at + 1_999].tolist()]

    outputs = [block[100:228].tolist(), tokens(100, 6)]
    tracemalloc.start()
    found = longest_overlaps(outputs, [[], []], passing())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000 * 2_000 * 8 / 10
    assert found[0] is not None
    assert found[1] is None
