"""sqlite_utils, imported without pandas and NumPy.

It imports both wherever they are installed, only to map column types that Loom does not use, and
that alone would cost more than all the rest of `hub ls`. A None in sys.modules makes the import
fail, which sqlite_utils is written to expect. Modules that are already loaded stay as they are.
"""

import sys

_hidden = [name for name in ("numpy", "pandas") if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    from sqlite_utils import Database, Migrations
finally:
    for _name in _hidden:
        del sys.modules[_name]

__all__ = ["Database", "Migrations"]
