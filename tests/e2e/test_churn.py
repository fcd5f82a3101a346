"""A minute of the benchmark `churn`: versions come and go, an engine is killed, nothing fails."""

from pathlib import Path

from benchmarks.adapters import word_adapters
from benchmarks.churn import churn
from hub.home import Home
from tests.e2e.conftest import Demo, await_no_engine

SECONDS = 60


def test_no_request_fails_and_none_gets_a_wrong_version_while_versions_and_engines_change(
    demo: Demo, tmp_path: Path
) -> None:
    """Two engines, one killed with SIGKILL; every answer says which weights gave it."""
    base = demo.hub.home / ".hub" / "bases" / "starter"
    spoken = word_adapters(Home(tmp_path / "words"), base, ("banana", "kettle"))
    home = Home(tmp_path / "churn" / "home")

    churned = churn(home, base, spoken, SECONDS)

    assert churned.record.kills == ["server"]
    assert sum(churned.lives.values()) == 3, "the killed engine came up again"
    assert len(churned.record.words) > SECONDS / 4
    assert [vars(answer) for answer in churned.failed] == []
    assert churned.wrong == []
    assert churned.cut, "none was cut off, so nothing is shown of how that ends"
    assert churned.counted_cuts == len(churned.cut)
    named = {answer.model for answer in churned.answers}
    assert len(named) > 5
    await_no_engine(home.root)
