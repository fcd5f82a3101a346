"""What the benchmark `churn` calls a wrong answer."""

import pytest

from benchmarks.asking import Answer, Ending
from benchmarks.churnwork import Move, Record, says


def answer(asked: str, model: str, text: str, *, sent: float = 10, first: float = 11) -> Answer:
    return Answer(asked, sent, first, first + 1, 200, model, text, "length", Ending.DONE)


@pytest.fixture
def record() -> Record:
    """Version 1 was in production until a move that ran from 5 to 6, and again from 20."""
    moves = [Move(0, 1, 1), Move(5, 6, 2), Move(20, 21, 1)]
    return Record({1: "one", 2: "two"}, moves)


def test_an_answer_is_right_that_says_the_word_of_a_version_in_production(record: Record) -> None:
    assert record.wrong(answer("speaker", "speaker@2", "two two tw")) is None
    assert record.wrong(answer("speaker", "speaker@1", "one", sent=5.5)) is None
    assert record.wrong(answer("speaker", "speaker@1", "one", sent=12, first=20.5)) is None
    assert record.wrong(answer("speaker@1", "speaker@1", "one one")) is None


@pytest.mark.parametrize(
    ("asked", "model", "text"),
    [
        ("speaker", "speaker@1", "one one"),  # not in production then
        ("speaker", "speaker@2", "one one"),  # another's word
        ("speaker", "speaker@2", "two one"),  # within one answer too
        ("speaker", "speaker@2", ""),  # whole, and nothing said
        ("speaker@1", "speaker@2", "two two"),  # not the one asked for
        ("speaker", "speaker@3", "two"),  # none that was published
        ("speaker", "starter", "two"),
    ],
)
def test_every_kind_of_wrong_answer_is_found(
    record: Record, asked: str, model: str, text: str
) -> None:
    assert record.wrong(answer(asked, model, text)) is not None


def test_a_word_may_only_be_cut_off_at_the_end() -> None:
    assert says("two two t", "two")
    assert not says("t two", "two")
    assert not says("two twos", "two")
