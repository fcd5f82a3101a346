"""Is an extra installed? Asked before the import that needs it, so that the answer is one line."""

from importlib.util import find_spec

from hub.errors import MissingExtra


def require_extra(extra: str, *modules: str) -> None:
    """Raises MissingExtra, saying what to install, unless all modules can be imported."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"this command needs {', '.join(missing)}, which the core leaves out",
            hint=f"Install it: pip install 'lora-loom[{extra}]'; [cpu] or [gpu] holds everything.",
        )
