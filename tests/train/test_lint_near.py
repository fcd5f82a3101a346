"""Near duplicates: which are found, what is not called near, and groups that stay as rows come."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.conftest import dataset
from train.data.near import near_groups, near_key
from train.data.near_index import MOST_COUNTED
from train.data.normalise import input_key
from train.data.rows import DataSet
from train.data.split import place, split

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdkmnst"]


def sentence(chance: random.Random, words: int) -> list[str]:
    return [chance.choice(WORDS) for _ in range(words)]


def questions(*texts: list[str] | str) -> DataSet:
    return dataset(*((t if isinstance(t, str) else " ".join(t), "a.") for t in texts))


def groups(data: DataSet) -> list[int]:
    """For each row the first row of its group."""
    keys = near_groups(data.rows)
    return [keys.index(key) + 1 for key in keys]


def changed(chance: random.Random, words: list[str], count: int) -> list[str]:
    """The words with `count` of them replaced, in different places."""
    copy = list(words)
    for at in chance.sample(range(len(words)), count):
        copy[at] = chance.choice(WORDS)
    return copy


@pytest.mark.parametrize("count", [300, MOST_COUNTED])
def test_planted_near_duplicates_are_found_and_no_others(count: int) -> None:
    """Of many questions of 40 words, 100 have a copy with two words changed: all are found, in a
    small set by counting and in a large one by MinHash."""
    chance = random.Random(3)
    texts = [sentence(chance, 40) for _ in range(count)]
    copies = [changed(chance, words, 2) for words in texts[:100]]
    found = groups(questions(*texts, *copies))
    assert found[:count] == list(range(1, count + 1))
    assert found[count:] == list(range(1, 101))


def test_a_common_template_makes_no_group() -> None:
    """60 short reviews under one long instruction are 60 groups; a copied review is one."""
    chance = random.Random(4)
    head = " ".join(sentence(chance, 120))
    reviews = [" ".join(sentence(chance, 20)) for _ in range(60)]
    found = groups(questions(*(f"{head}: {review}" for review in [*reviews, reviews[8]])))
    assert found == [*range(1, 61), 9]


def test_short_questions_are_near_only_when_equal() -> None:
    """One word makes another question of a short one; case, marks and spaces do not."""
    data = questions("What is a red car?", "What is a red cat?", "what is a  red car")
    assert groups(data) == [1, 2, 1]


def test_languages_without_spaces_are_compared_by_characters() -> None:
    """A Japanese question with one character changed is near; another question is not."""
    first = "昨日そちらの店で買った台所用の小さなランプが今朝から急に点かなくなりました"
    other = "来週の金曜日に庭で使う新しい椅子を三つ届けてほしいのですが値段はいくらですか"
    assert groups(questions(first, first.replace("今朝", "昨朝"), other)) == [1, 1, 3]


def test_the_system_prompt_does_not_make_rows_alike() -> None:
    """Rows that share a long system prompt and ask different things are different."""
    from tests.train.lint_corpus import tickets

    rows = tickets().rows[:12]
    assert len(set(near_groups(rows))) == len({input_key(row) for row in rows})


@given(seed=st.integers(0, 10_000), before=st.integers(0, 10), added=st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_appended_rows_move_no_group_down(seed: int, before: int, added: int) -> None:
    """Rows keep their group when others come, or its place in a split rises: none that was trained
    on is validated on later."""
    chance = random.Random(seed)
    seeds = [sentence(chance, 16) for _ in range(4)]
    texts = [changed(chance, chance.choice(seeds), chance.choice((0, 1, 2)))
             for _ in range(before + added)]  # fmt: skip
    early, late = questions(*texts[:before]), questions(*texts)
    for old, new in zip(near_groups(early.rows), near_groups(late.rows), strict=False):
        assert place(new) >= place(old)
    assert [*map(near_key(late.rows), late.rows)] == near_groups(late.rows)


@pytest.mark.parametrize("others", [0, 20])
def test_a_form_filled_in_many_times_is_validated_on_by_its_share(others: int) -> None:
    """200 invoices that differ in numbers alone, by themselves or with other questions: about a
    tenth of them validates, and the same invoice twice stays together."""
    chance = random.Random(7)
    forms = [
        f"Invoice no. {chance.randrange(10**6)} to the customer {chance.randrange(10**4)} about "
        f"{chance.randrange(1000)} euros, to be paid within 30 days."
        for _ in range(200)
    ]
    data = questions(*forms, *forms[:10], *(sentence(chance, 16) for _ in range(others)))
    validation = split(data, validation=0.1, key=near_key(data.rows))[1]
    assert 10 <= len(validation) <= 35
    number = {row.number for row in validation.rows}
    assert all((at in number) == (at + 200 in number) for at in range(1, 11))


def test_a_split_tears_no_group_apart() -> None:
    """With groups as the key of the split, no near duplicate is on both sides."""
    chance = random.Random(5)
    texts = [sentence(chance, 40) for _ in range(60)]
    data = questions(*texts, *(changed(chance, words, 1) for words in texts))
    key = near_key(data.rows)
    train, validation = split(data, validation=0.2, key=key)
    assert len(validation) > 4
    assert not set(map(key, train.rows)) & set(map(key, validation.rows))
    number = {row.number for row in validation.rows}
    assert {at + 60 if at <= 60 else at - 60 for at in number} == number
