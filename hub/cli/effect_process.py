"""The effect check in a process of its own, for a server that may hold no tensors.

`python -m hub.cli.effect_process` reads one JSON object a line, `{"base": source, "folder": path}`,
and answers each with a line: `{"effect": {…}}`, or the error as `hub.wire` reads it. The base stays
loaded between them (checking all versions loads it once), and when nothing more comes for a while
the process ends and gives the memory back. One check at a time: two would load the base twice.
"""

import json
import os
import select
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hub.errors import HubError, MissingExtra

if TYPE_CHECKING:
    from hub.publish import Effect

# Long enough for the next version of a check of all, short beside an hour of a base in memory.
_LINGER_S = 30.0
_CLOSE_S = 5.0
_WHY = "The server's log says why; a base that is too large for its memory does that."


class EffectProcess:
    """A `hub.publish.MeasureEffect` for any thread. Closing it ends a check that is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._closed = False

    def __enter__(self) -> "EffectProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()
            child.wait(_CLOSE_S)

    def __call__(self, base_source: str, folder: Path) -> "Effect":
        """Raises what `hub.cli.effect` raises there, and HubError when the process dies."""
        from hub.publish import Effect
        from hub.wire import error_from

        question = json.dumps({"base": base_source, "folder": str(folder)})
        with self._lock:
            # One that has just ended for want of questions leaves this one to another.
            answer = self._ask(question) or self._ask(question)
        if not answer:
            raise HubError(
                "the effect check did not come to an end",
                hint=_WHY,
            )
        told: dict[str, Any] = json.loads(answer)
        if error := error_from(told):
            if isinstance(error, MissingExtra):
                error.where = "on the hub's machine"
            raise error
        return Effect(**told["effect"])

    def _ask(self, question: str) -> str:
        """The answer's line, or '' when the process ended instead of answering."""
        child = self._child
        if child is None or child.poll() is not None:
            child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.write(f"{question}\n")
            child.stdin.flush()
            if answer := child.stdout.readline():
                return answer
        died = child.wait(_CLOSE_S) != 0
        if died:
            raise HubError(
                "the effect check's process died",
                hint=_WHY,
            )
        return ""

    def _start(self) -> "subprocess.Popen[str]":
        if self._closed:
            raise HubError("the server is stopping", hint="Try again in a moment.")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "hub.cli.effect_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._child


def main() -> None:
    from hub.cli.effect import ModelEffect

    # Libraries print where they like; what they print goes to the server's log, not into answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        measure = ModelEffect()
        while select.select([sys.stdin], [], [], _LINGER_S)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            asked = json.loads(line)
            try:
                answer = {"effect": asdict(measure(asked["base"], Path(asked["folder"])))}
            except HubError as error:
                answer = error.to_openai()
            answers.write(f"{json.dumps(answer)}\n")
            answers.flush()


if __name__ == "__main__":
    main()
