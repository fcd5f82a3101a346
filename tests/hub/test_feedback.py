"""The interaction log and what is exported from it."""

import json
from collections.abc import Iterator

import pytest

from hub.errors import Conflict, InvalidData, UnknownInteraction
from hub.feedback.export import export_rows, prompt_key
from hub.feedback.interactions import Interaction, InteractionLog, new_id
from hub.home import Home
from hub.registry import Registry

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def log(registry: Registry, home: Home) -> Iterator[InteractionLog]:
    with InteractionLog.open(home) as log:
        yield log


def answered(
    log: InteractionLog, prompt: str, answer: str, adapter: str = "support@1", **changes: str
) -> str:
    request = {"messages": [{"role": "user", "content": prompt}]}
    facts = {"endpoint": "chat", "status": "complete", **changes}
    entry = Interaction(
        id=new_id("int"), at="2026-01-01T00:00:00.000Z", requested="support", adapter=adapter,
        digest="d", request=json.dumps(request), answer=answer, response="{}", latency_ms=5.0,
        **facts,
    )  # fmt: skip
    log.record([entry])
    return entry.id


def test_an_edit_becomes_a_row_that_traces_back(log: InteractionLog) -> None:
    """The edited answer is learned; the row says which interaction, version and feedback."""
    interaction = answered(log, "Where is my card?", "No idea.")
    given = log.give_feedback(interaction, edit="On its way.")
    (row,) = export_rows(log, format="sft", adapter=None, evaluated=NOTHING).rows
    assert row["messages"] == [
        {"role": "user", "content": "Where is my card?"},
        {"role": "assistant", "content": "On its way."},
    ]
    assert row["source"] == {
        "interaction": interaction, "version": "support@1", "kind": "edit", "feedback": given.id,
    }  # fmt: skip


def test_the_newest_edit_counts_and_a_thumb_does_not_undo_it(log: InteractionLog) -> None:
    """Changing one's mind replaces the row; a thumb on the old answer leaves the edit."""
    interaction = answered(log, "q", "bad")
    log.give_feedback(interaction, edit="better")
    log.give_feedback(interaction, edit="best")
    log.give_feedback(interaction, thumb=-1)
    rows = export_rows(log, format="sft", adapter=None, evaluated=NOTHING).rows
    assert [row["messages"][-1]["content"] for row in rows] == ["best"]


def test_thumbs_up_are_learned_and_thumbs_down_are_not(log: InteractionLog) -> None:
    """Only what somebody called good, and only whole answers, become rows."""
    good, bad = answered(log, "a", "good"), answered(log, "b", "bad")
    cut = answered(log, "c", "cut o", status="incomplete")
    log.give_feedback(good, thumb=1)
    log.give_feedback(bad, thumb=-1)
    log.give_feedback(cut, thumb=1)
    rows = export_rows(log, format="sft", adapter=None, evaluated=NOTHING).rows
    assert [row["messages"][-1]["content"] for row in rows] == ["good"]


def test_votes_and_edits_become_pairs_and_ties_do_not(log: InteractionLog) -> None:
    """The winner is chosen, the loser rejected, whichever side each was on."""
    for vote in ("right", "tie", "both_bad", "none"):
        comparison = log.add_comparison([], "base", "support")
        left = answered(log, f"q {vote}", "theirs", adapter="base")
        log.answer_comparison(comparison.id, left, answered(log, f"q {vote}", "ours"))
        log.vote(comparison.id, vote)
    (row,) = export_rows(log, format="dpo", adapter="support", evaluated=NOTHING).rows
    assert row["prompt"] == [{"role": "user", "content": "q right"}]
    assert row["chosen"] == [{"role": "assistant", "content": "ours"}]
    assert row["rejected"] == [{"role": "assistant", "content": "theirs"}]
    assert row["source"]["loser"] == "base"


def test_rows_of_an_evaluation_set_are_kept_out(log: InteractionLog) -> None:
    """A prompt that a version is judged by is never trained on, however it is punctuated."""
    kept = answered(log, "Where is order 12?", "x")
    judged = answered(log, "where is ORDER 13", "y")
    for interaction in (kept, judged):
        log.give_feedback(interaction, edit="z")
    evaluated = frozenset({prompt_key([{"role": "user", "content": "Where is order 13?"}])})
    exported = export_rows(log, format="sft", adapter=None, evaluated=evaluated)
    assert [row["source"]["interaction"] for row in exported.rows] == [kept]
    assert exported.in_evaluation == 1


def test_duplicates_and_other_adapters_are_left_out(log: InteractionLog) -> None:
    """The same conversation is exported once; --adapter means its versions only."""
    for adapter in ("support@1", "support@2", "formal@1"):
        log.give_feedback(answered(log, "q", "a", adapter=adapter), thumb=1)
    exported = export_rows(log, format="sft", adapter="support", evaluated=NOTHING)
    assert (len(exported.rows), exported.duplicates) == (1, 1)


def test_nothing_to_export_is_said(log: InteractionLog) -> None:
    """An empty file would be trained on by mistake."""
    answered(log, "q", "a")
    with pytest.raises(InvalidData, match="no feedback on answers of 'support'"):
        export_rows(log, format="sft", adapter="support", evaluated=NOTHING)


def test_feedback_that_says_nothing_or_too_much_is_refused(log: InteractionLog) -> None:
    """One piece at a time, on something that happened."""
    interaction = answered(log, "q", "a")
    with pytest.raises(InvalidData, match="exactly one"):
        log.give_feedback(interaction)
    with pytest.raises(InvalidData, match="exactly one"):
        log.give_feedback(interaction, thumb=1, edit="x")
    with pytest.raises(InvalidData, match="empty"):
        log.give_feedback(interaction, edit="  ")
    with pytest.raises(UnknownInteraction):
        log.give_feedback("int_0", thumb=1)
    assert log.feedback() == []


def test_a_failed_side_can_t_win_or_lose(log: InteractionLog) -> None:
    """An empty answer of a broken engine never becomes a preference."""
    comparison = log.add_comparison([], "base", "support")
    failed = answered(log, "q", "", status="failed")
    log.answer_comparison(comparison.id, failed, answered(log, "q", "fine"))
    for vote in ("left", "right", "tie"):
        with pytest.raises(Conflict, match="a side of this comparison failed"):
            log.vote(comparison.id, vote)
    assert log.vote(comparison.id, "both_bad").vote == "both_bad"


def test_a_comparison_is_voted_on_once_and_after_its_answers(log: InteractionLog) -> None:
    """No vote on nothing, and no second vote."""
    comparison = log.add_comparison([{"role": "user", "content": "q"}], "base", "support")
    with pytest.raises(Conflict, match="not answered"):
        log.vote(comparison.id, "left")
    log.answer_comparison(comparison.id, answered(log, "q", "a"), answered(log, "q", "b"))
    with pytest.raises(InvalidData, match="a vote is one of"):
        log.vote(comparison.id, "up")
    assert log.vote(comparison.id, "left").vote == "left"
    with pytest.raises(Conflict, match="voted 'left' already"):
        log.vote(comparison.id, "right")
