"""The split is stable when rows are added, and no near duplicate is on both sides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import InvalidConfig
from tests.train.conftest import dataset
from train.data.normalise import input_key
from train.data.rows import DataSet
from train.data.split import MIN_ROWS, split

QUESTIONS = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 30)).map(lambda p: f"{p[0]} {p[1]}?"),
    max_size=60,
)


def keys(data: DataSet) -> set[str]:
    return {input_key(row) for row in data.rows}


@given(before=QUESTIONS, added=QUESTIONS, share=st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=200, deadline=None)
def test_added_rows_move_no_other_to_validation(
    before: list[str], added: list[str], share: float
) -> None:
    """What was trained on is never validated on later, whatever is added (but for the one group
    that trained only because a set may not be all validation)."""
    train, _ = split(dataset(*((q, "a.") for q in before)), validation=share)
    _, validation = split(dataset(*((q, "a.") for q in [*before, *added])), validation=share)
    moved = keys(train) & keys(validation)
    assert len(moved) <= (1 if len(before) < MIN_ROWS or len(keys(train)) == 1 else 0)


def test_a_hundred_more_rows_leave_a_thousand_where_they_were() -> None:
    """With enough rows the exceptions play no part: no row changes its side at all."""
    rows = [(f"question {number} of all", "a.") for number in range(1100)]
    small, large = (
        split(dataset(*rows[:1000]), validation=0.1),
        split(dataset(*rows), validation=0.1),
    )
    assert keys(small[0]) <= keys(large[0])
    assert keys(small[1]) <= keys(large[1])
    assert 70 <= len(small[1]) <= 130


@given(questions=QUESTIONS)
@settings(max_examples=100, deadline=None)
def test_near_duplicates_stay_together(questions: list[str]) -> None:
    """No normalised question is on both sides, and no row is lost."""
    rows = [(question, "a.") for question in questions]
    rows += [(question.upper().replace("?", " !"), "b.") for question in questions]
    train, validation = split(dataset(*rows), validation=0.3)
    assert not keys(train) & keys(validation)
    assert len(train) + len(validation) == len(rows)


def test_small_sets_get_a_row_to_validate_on() -> None:
    """From 8 rows on there is always one, and never all."""
    for count in range(MIN_ROWS, 30):
        rows = [(f"{'x' * count} {number}", "a.") for number in range(count)]
        train, validation = split(dataset(*rows), validation=0.01)
        assert len(validation) >= 1
        assert len(train) >= 1


def test_no_validation_and_one_group_train_on_all() -> None:
    """A share of 0, or rows that all ask the same, leave nothing to validate on."""
    rows = dataset(*((f"question {number}", "a.") for number in range(20)))
    assert len(split(rows, validation=0)[1]) == 0
    same = dataset(*(("Question?", f"{number}.") for number in range(20)))
    assert len(split(same, validation=0.5)[1]) == 0


def test_another_key_keeps_its_groups_together() -> None:
    """What counts as the same question can be said from outside, such as by near duplicates."""
    rows = dataset(*((f"question {number} of all", "a.") for number in range(100)))
    train, validation = split(rows, validation=0.3, key=lambda row: str((row.number - 1) // 5))
    assert len(validation) > 0
    assert len(validation) % 5 == 0
    groups = [{(row.number - 1) // 5 for row in side.rows} for side in (train, validation)]
    assert not groups[0] & groups[1]


def test_a_share_over_half_is_refused() -> None:
    """More validation than training is a mistake."""
    with pytest.raises(InvalidConfig, match=r"0\.6"):
        split(dataset(("a", "b")), validation=0.6)
