"""The effect check in a process of its own: whatever becomes of it, the server hears of it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.cli.effect_process import EffectProcess
from hub.errors import BaseError, HubError
from tests.serve.processes import alive, soon


def test_what_the_check_raises_is_raised_here(tmp_path: Path) -> None:
    """The error of the other process, as it was raised there."""
    with EffectProcess() as measure, pytest.raises(BaseError) as told:
        measure(str(tmp_path / "nowhere"), tmp_path)
    assert "nowhere" in str(told.value)


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_a_check_that_dies_is_an_error_and_leaves_no_process(tmp_path: Path, how: str) -> None:
    """Killed from outside (too little memory), or ended because the server stops."""
    effect = EffectProcess()
    with ThreadPoolExecutor(1) as threads:
        with effect as measure:
            asked = threads.submit(measure, str(tmp_path), tmp_path)
            soon(lambda: measure._child is not None)
            child = measure._child
            assert child is not None
            if how == "killed":
                child.kill()
                with pytest.raises(HubError, match="died"):
                    asked.result(20)
        with pytest.raises(HubError):
            asked.result(20)
        assert not alive(child.pid)
    with pytest.raises(HubError, match="stopping"):
        effect(str(tmp_path), tmp_path)
