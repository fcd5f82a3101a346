"""httpx, imported without the command line that it brings.

Where click, rich and pygments are installed it imports them for a command that Loom does not use,
and that alone would cost as much as all the rest of `hub ls --hub URL`. A None in sys.modules makes
that import fail, which httpx is written to expect.
"""

import sys

_hidden = [name for name in ("pygments",) if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import httpx
finally:
    for _name in _hidden:
        del sys.modules[_name]

__all__ = ["httpx"]
