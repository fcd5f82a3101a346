"""One of the processes of a training on several devices; `train.trainers.launch` starts them.

    python -m train.trainers.rank SHARE

It trains to the end, with the others, and leaves checkpoints; nothing else is written. The first of
them tells how it goes, a line of JSON each, on what was its standard output; whatever libraries
print goes to standard error.
"""

import json
import os
import pickle
import select
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from train.progress import Progress, Report, Wanted
from train.runtime import ready
from train.trainers.launch import MARK, WANTED, Share

_WANTS: dict[str, Wanted] = {"cancel": "cancel", "pause": "pause"}


def main() -> None:
    share: Share = pickle.loads(Path(sys.argv[1]).read_bytes())
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    threading.Thread(target=die_with_reader, args=(told.fileno(),), daemon=True).start()
    ready(quantize=share.settings.quantize is not None)
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]

    from hub.errors import HubError, RunStopped
    from train.trainers.methods import train_share

    state = PartialState(cpu=not torch.cuda.is_available())
    first = state.is_main_process
    try:
        spent = train_share(share, _teller(share, told) if first else _silent)
        if first:
            _say(told, asdict(spent))
    except RunStopped as stop:
        if first:
            _say(told, {"stopped": stop.wanted, "step": stop.step})
    except Exception as error:
        # Whatever it is, it is told as what went wrong: else the launcher's own report hides it.
        hint = error.hint if isinstance(error, HubError) else None
        words = str(error) if isinstance(error, HubError) else f"{type(error).__name__}: {error}"
        _say(told, {"error": words, "hint": hint})
        os._exit(1)  # the others wait for this one in the middle of a step, and are ended
    state.destroy_process_group()


def _silent(progress: Progress) -> None:
    """Only the first process has something to tell, and is told."""


def _teller(share: Share, told: TextIO) -> Report:
    def tell(progress: Progress) -> Wanted | None:
        _say(told, {**asdict(progress), "folder": str(progress.folder or "")})
        try:
            return _WANTS.get((share.out / WANTED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    return tell


def _say(told: TextIO, facts: dict[str, Any]) -> None:
    told.write(f"{MARK}{json.dumps(facts)}\n")


def die_with_reader(told: int) -> None:
    """A parent that was killed can't end its children, and a resume would find them at work: but
    its end of the pipe is closed, whatever killed it."""
    ends = select.poll()
    ends.register(told, 0)  # asks for nothing but what always comes: an error, a hang-up
    ends.poll()
    os._exit(1)


if __name__ == "__main__":
    main()
