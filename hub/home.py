"""Where a hub keeps its things: one folder with `registry.db` and `.hub/` in it.

Only paths live here. Nothing in this module opens, reads or locks a file's contents.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from hub.errors import HubError, NoHome


@dataclass(frozen=True)
class Home:
    """A hub's folder; `root` is absolute."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """`HUB_HOME`, or the current folder."""
        return cls(Path(os.environ.get("HUB_HOME") or ".").expanduser().resolve())

    @property
    def registry(self) -> Path:
        return self.root / "registry.db"

    @property
    def data(self) -> Path:
        return self.root / ".hub"

    @property
    def interactions(self) -> Path:
        return self.data / "interactions.db"

    @property
    def blobs(self) -> Path:
        """Files by sha256: `blobs/ab/abcdef…`."""
        return self.data / "blobs"

    @property
    def adapters(self) -> Path:
        """Materialised versions in PEFT layout: `support@3/`, `acme/support@3/`."""
        return self.data / "adapters"

    @property
    def bases(self) -> Path:
        """Bases built here, by name."""
        return self.data / "bases"

    @property
    def runs(self) -> Path:
        """One folder a training run: checkpoints, the finished adapter, the report."""
        return self.data / "runs"

    @property
    def files(self) -> Path:
        """What was uploaded to be trained on, and what jobs measured (`hub.files`)."""
        return self.data / "files"

    @property
    def jobs_lock(self) -> Path:
        """Held by the one process that works through the fine-tuning jobs."""
        return self.data / "jobs.lock"

    @property
    def jobs_log(self) -> Path:
        """What that process and those that train have to say."""
        return self.data / "jobs.log"

    @property
    def logs(self) -> Path:
        """Engine logs."""
        return self.data / "logs"

    @property
    def leases(self) -> Path:
        """What running gateways use, one folder each (`hub.leases`)."""
        return self.data / "leases"

    @property
    def backups(self) -> Path:
        """The databases that a forced `hub restore` replaced."""
        return self.data / "backups"

    @property
    def scratch(self) -> Path:
        """Half-written things, on the same file system so that a rename is atomic."""
        return self.data / "scratch"

    def exists(self) -> bool:
        return self.registry.is_file()

    def require(self) -> "Home":
        """Itself, or `NoHome` saying how to make one."""
        if not self.exists():
            raise NoHome(
                "no hub here: registry.db not found",
                where=str(self.root),
                hint="Run `hub init` here, or set HUB_HOME to the folder of an existing hub.",
            )
        return self

    def create(self) -> "Home":
        """Make the folders; the database is made by whoever opens it first. Raises HubError."""
        try:
            for folder in (
                self.blobs,
                self.adapters,
                self.bases,
                self.runs,
                self.logs,
                self.scratch,
            ):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HubError(
                f"no hub can be made here ({error.strerror})",
                where=str(self.root),
                hint="Choose a folder that you may write to, here or with HUB_HOME.",
            ) from error
        return self
