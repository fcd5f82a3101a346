"""A model's folder written whole or not at all, and what it has beside config and weights."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.blobs import sync

# Tokenizer, templates, how to generate, and terms: what a change of weights leaves as it is.
_COMPANIONS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "chat_template.json",
    "additional_chat_templates/*",
    "generation_config.json",
    "suggestions.json",
    "LICENSE*",
    "NOTICE*",
)


def copy_companions(source: Path, folder: Path) -> None:
    """Byte for byte, over what a library may have written in their place."""
    for pattern in _COMPANIONS:
        for path in source.glob(pattern):
            if path.is_file():
                target = folder / path.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and is gone however else this ends.

    Only a process that is killed outright leaves it: `.NAME.partial-…`.
    """
    scratch = out.parent / f".{out.name}.partial-{secrets.token_hex(4)}"
    try:
        scratch.mkdir()
        yield scratch
        for path in [*scratch.rglob("*"), scratch]:
            sync(path)
        scratch.rename(out)
        sync(out.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
