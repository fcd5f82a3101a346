"""What goes on in the churn: somebody publishes, promotes and rolls back, and engines are killed.

Every version says one word, and which word is known here and nowhere in the gateway: an answer
betrays which weights gave it, and the moves recorded here say when they were in production.
"""

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.adapters import variant
from benchmarks.asking import Answer, Ending
from benchmarks.processes import children, command, descendants, kill
from hub.home import Home
from hub.names import PRODUCTION

if TYPE_CHECKING:
    from hub.local import LocalHub

ADAPTER = "speaker"
_VERSION = re.compile(rf"{ADAPTER}@([0-9]+)")


@dataclass(frozen=True)
class Move:
    """Production became `number` at some moment between these two."""

    began: float
    ended: float
    number: int


@dataclass
class Record:
    """`words` by version number."""

    words: dict[int, str] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)

    def wrong(self, answer: Answer) -> str | None:
        """What is wrong with which version answered, or with what it said; None if all is right.

        An answer that was cut off is judged by what came of it."""
        if not answer.model:
            return None
        named = _VERSION.fullmatch(answer.model)
        if named is None or int(named[1]) not in self.words:
            return f"{answer.asked} was answered by {answer.model!r}"
        number = int(named[1])
        asked = _VERSION.fullmatch(answer.asked)
        if asked and int(asked[1]) != number:
            return f"{answer.asked} was answered by {answer.model}"
        if not asked and not self._in_production(number, answer):
            return f"{answer.model} answered, which was not in production"
        nothing = answer.ending is Ending.DONE and not answer.text
        if nothing or not says(answer.text, self.words[number]):
            return f"{answer.model}, which says {self.words[number]!r}, said {answer.text!r}"
        return None

    def _in_production(self, number: int, answer: Answer) -> bool:
        """Whether it was, at some moment between the request and its answer's first byte."""
        until = answer.first or answer.ended
        for move, following in zip(self.moves, [*self.moves[1:], None], strict=True):
            gone = following.ended if following else float("inf")
            if move.number == number and move.began <= until and gone >= answer.sent:
                return True
        return False


def says(text: str, word: str) -> bool:
    """Nothing but the word, over and over; the last may be cut off."""
    *whole, last = text.split(" ") if text else [""]
    return all(part == word for part in whole) and word.startswith(last)


class Publisher(threading.Thread):
    """Every `every_s` seconds a new version, published with every check, promoted, rolled back.

    Before each new version the last one is promoted again, so that production moves on. Nothing is
    evaluated here, so promotions are forced past the gate.
    """

    def __init__(
        self, home: Home, spoken: dict[str, Path], record: Record, scratch: Path, every_s: float
    ) -> None:
        super().__init__(name="publisher")
        self._home = home
        self._spoken = list(spoken.items())
        self._record = record
        self._scratch = scratch
        self._every_s = every_s
        self._stopped = threading.Event()
        self.first = threading.Event()
        self.error: BaseException | None = None

    def stop(self) -> None:
        """Raises what ended it early."""
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        from hub.cli.effect import ModelEffect
        from hub.local import LocalHub

        try:
            with LocalHub.open(self._home, ModelEffect()) as hub:
                self._publish(hub, 1)  # which makes it production
                self._publish(hub, 2)
                self.first.set()
                number, due = 2, perf_counter()
                while not self._stopped.wait(max(0.0, due - perf_counter())):
                    self._move(hub, number)
                    number += 1
                    self._publish(hub, number)
                    self._move(hub, number)
                    if self._stopped.wait(self._every_s / 2):
                        return
                    self._back(hub, number - 1)
                    due += self._every_s
        except BaseException as error:  # a thread's error is seen only by who asks for it
            self.error = error
            self.first.set()

    def _publish(self, hub: "LocalHub", number: int) -> None:
        word, folder = self._spoken[number % len(self._spoken)]
        made = variant(folder, self._scratch / str(number), number)
        self._record.words[number] = word
        began = perf_counter()
        published = hub.publish(ADAPTER, made, lineage={})
        assert published.version == f"{ADAPTER}@{number}", published
        if number == 1:
            self._record.moves.append(Move(began, perf_counter(), number))

    def _move(self, hub: "LocalHub", number: int) -> None:
        began = perf_counter()
        hub.promote(f"{ADAPTER}@{number}", PRODUCTION, expect=None, force=True, why="churn")
        self._record.moves.append(Move(began, perf_counter(), number))

    def _back(self, hub: "LocalHub", to: int) -> None:
        began = perf_counter()
        move = hub.rollback(ADAPTER, to=None, why="churn")
        assert move.to_number == to, move
        self._record.moves.append(Move(began, perf_counter(), to))


def kill_engine(gateway: int, *, core: bool) -> str:
    """SIGKILL for the engine that has been up longest: vLLM's server, or only its engine core.

    Says what was killed."""
    guards = [pid for pid in children(gateway) if "serve.engines.guard" in command(pid)]
    for guard in guards:
        for server in children(guard):
            cores = [pid for pid in descendants(server) if "EngineCore" in command(pid)]
            if core and cores:
                kill(cores[0])
                return "engine core"
            if not core:
                kill(server)
                return "server"
    return "nothing"
