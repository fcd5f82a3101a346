"""Is an extra installed? Asked before the import that needs it, so that the answer is one line."""

from importlib.util import find_spec

from hub.errors import MissingExtra


def require_extra(extra: str, *modules: str) -> None:
    """Raises MissingExtra, saying what to install, unless all modules can be imported."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        full = "cpu (or gpu)" if extra in ("serve", "train") else extra
        raise MissingExtra(
            f"this command needs {', '.join(missing)}, which the core leaves out",
            hint=f"Install an extra: pip install 'lora-loom[{extra}]', or {full} for everything.",
        )
