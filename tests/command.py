"""Running `hub` as a user does: a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Hub:
    """`hub` with its home; paths in arguments are relative to the home."""

    home: Path
    server: str | None = None
    home_variable: str | None = None
    key: str | None = None
    key_file: str | None = None

    def __call__(
        self, *arguments: object, stdin: str | None = None, timeout: float = 300
    ) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "hub", *map(str, arguments)],
            cwd=self.home,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def environment(self) -> dict[str, str]:
        """This process's environment, less what would lead `hub` elsewhere."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("HUB_")}
        given = {
            "HUB_SERVER": self.server,
            "HUB_HOME": self.home_variable,
            "HUB_KEY": self.key,
            "HUB_KEY_FILE": self.key_file,
        }
        return {**own, **{key: value for key, value in given.items() if value}}

    def ok(self, *arguments: object, stdin: str | None = None) -> Result:
        """Run it, and fail with what it printed unless it succeeds."""
        result = self(*arguments, stdin=stdin)
        assert result.status == 0, f"hub {arguments}:\n{result.stdout}\n{result.stderr}"
        return result
