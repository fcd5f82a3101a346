"""What the process needs around torch and its libraries: their presence, speed and silence.

`ready()` goes before the first import of torch; `quiet()` goes around everything that those
libraries do, because this project reports progress and faults itself.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from hub.errors import MissingExtra

_NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")

# Read once, when torch's OpenMP library is loaded. Without the first two its idle threads spin, and
# on few cores they take the time of those that work. The third avoids a warning after a fork.
_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
}


def ready(*, quantize: bool) -> None:
    """Check that training is installed and import peft in the way that is quick.

    peft imports bitsandbytes wherever it is installed, and that compiles kernels for seconds; only
    4-bit training needs it.

    Raises:
        MissingExtra: when a library is not installed.
    """
    needed = (*_NEEDED, "bitsandbytes") if quantize else _NEEDED
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"training needs {', '.join(missing)}, which the core leaves out",
            hint="Install it: pip install 'lora-loom[train]', or [cpu] or [gpu] for everything.",
        )
    if "torch" not in sys.modules:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    with quiet():
        if quantize:
            _with_bitsandbytes()
        elif "bitsandbytes" not in sys.modules and "peft" not in sys.modules:
            _without_bitsandbytes()


def _without_bitsandbytes() -> None:
    # None in sys.modules is Python's own way to say "not there"; peft remembers the answer.
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    try:
        from peft.import_utils import is_bnb_available

        is_bnb_available()
    finally:
        del sys.modules["bitsandbytes"]


def _with_bitsandbytes() -> None:
    """Undo what an earlier run without quantization made peft remember."""
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    for known in (is_bnb_available, is_bnb_4bit_available):
        known.cache_clear()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars from libraries inside; all as it was after."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bars = _switch_bars(False)
            try:
                yield
            finally:
                if bars:
                    _switch_bars(True)
    finally:
        logging.disable(before)


def _switch_bars(wanted: bool) -> bool:
    """Switch transformers' progress bars, and tell whether they were on; not imported is off."""
    if "transformers" not in sys.modules:
        return False
    from transformers.utils import logging as library

    before = library.is_progress_bar_enabled()
    switch: Callable[[], None] = (
        library.enable_progress_bar if wanted else library.disable_progress_bar
    )
    switch()
    return before
