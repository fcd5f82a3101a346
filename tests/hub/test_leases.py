"""Leases: held as long as their process lives, seen by every other process."""

import subprocess
import sys
from pathlib import Path

import pytest

from hub.errors import HubError
from hub.home import Home
from hub.leases import Leases, dead, leased

_HOLD = """
import sys
from pathlib import Path
from hub.home import Home
from hub.leases import Leases
leases = Leases.open(Home(Path(sys.argv[1])))
leases.take("a" * 64)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lease_lives_as_long_as_its_process(home: Home) -> None:
    """Seen from here while the other process lives, and dead when that is killed."""
    home.create()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == b"held\n"
        assert leased(home) == {"a" * 64}
        assert dead(home) == []
        holder.kill()
        holder.wait()
    assert leased(home) == set()
    assert len(dead(home)) == 1


def test_what_is_taken_twice_is_let_go_twice(home: Home) -> None:
    """Two adapters with the same bytes share a digest; the first to leave keeps the other's."""
    home.create()
    leases = Leases.open(home)
    leases.take("d")
    leases.take("d")
    leases.let_go("d")
    assert leased(home) == {"d"}
    leases.let_go("d")
    assert leased(home) == set()
    leases.close()
    assert list(home.leases.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A gateway without leases would lose its files to gc, so it does not start."""
    (tmp_path / ".hub").write_text("in the way")
    with pytest.raises(HubError, match="can't be written"):
        Leases.open(Home(tmp_path))
