"""Reading a base model's folder: who it is and what shapes its weights have. No tensor is loaded.

Where the folder comes from (built here, downloaded, given) is the caller's business.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hub.errors import AdapterRejected, BaseError
from hub.manifest import (
    BaseIdentity,
    canonical_json,
    sha256_of_file,
    sha256_of_files,
    sha256_of_json,
)
from hub.records import Base

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_TEMPLATE = "chat_template.jinja"


def read_base(
    folder: Path, name: str, *, revision: str | None = None
) -> tuple[BaseIdentity, dict[str, tuple[int, ...]]]:
    """Identify the model in a folder and read the shapes of its weights.

    Without a `revision` the weights themselves are hashed, which reads every byte of them.

    Raises:
        BaseError: when it is not a model that adapters can stand on, saying what is missing.
    """
    config = _read_json(folder / "config.json")
    if "model_type" not in config:
        raise BaseError("config.json names no model_type", where=str(folder))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BaseError(
            "no *.safetensors in this folder",
            where=str(folder),
            hint="Loom reads weights as safetensors only. Save the model with save_pretrained().",
        )
    tokenizer = [folder / file for file in _TOKENIZER_FILES if (folder / file).is_file()]
    if not tokenizer:
        raise BaseError("no tokenizer in this folder", where=str(folder))
    # Notes of the library that wrote the file; they differ between machines for the same model.
    for note in ("transformers_version", "_name_or_path"):
        config.pop(note, None)
    identity = BaseIdentity(
        name=name,
        revision=revision or f"sha256:{sha256_of_files(weights)}",
        config_sha256=sha256_of_json(config),
        tokenizer_sha256=sha256_of_files(tokenizer),
        template_sha256=_template_hash(folder),
    )
    return identity, _shapes(weights)


def changed(base: Base) -> str | None:
    """What is no longer as it was when a base was added: "weights, chat template"; None if nothing.

    Raises:
        BaseError: when its folder is gone or is no model any more.
    """
    known = base.identity
    of_weights = known.revision.startswith("sha256:")
    found, shapes = read_base(
        Path(base.source), base.name, revision=None if of_weights else known.revision
    )
    parts = {
        "weights": found.revision != known.revision or shapes != base.shapes,
        "config": found.config_sha256 != known.config_sha256,
        "tokenizer": found.tokenizer_sha256 != known.tokenizer_sha256,
        "chat template": found.template_sha256 != known.template_sha256,
    }
    return ", ".join(part for part, differs in parts.items() if differs) or None


class Unchanged:
    """Looks whether bases are what was added, and again only when a file of theirs was touched."""

    def __init__(self) -> None:
        self._seen: dict[str, object] = {}

    def require(self, base: Base) -> None:
        """Raises AdapterRejected by `base` when it is another model now.

        One whose folder is gone is not looked at: whoever runs it will say so.
        """
        folder = Path(base.source)
        if not folder.is_dir():
            return
        files = sorted(path for path in folder.iterdir() if path.is_file())
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        if self._seen.get(base.source) == state:
            return
        if parts := changed(base):
            raise AdapterRejected(
                f"the base '{base.name}' is not what was added: its {parts} changed",
                check="base",
                where=base.source,
                hint="Restore its files, or add the folder as a base under another name.",
            )
        self._seen[base.source] = state


def _template_hash(folder: Path) -> str:
    if (folder / _TEMPLATE).is_file():
        return sha256_of_file(folder / _TEMPLATE)
    settings = folder / "tokenizer_config.json"
    template = _read_json(settings).get("chat_template") if settings.is_file() else None
    return sha256_of_json(canonical_json(template)) if template else ""


def _shapes(weights: list[Path]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weights:
        try:
            with safe_open(path, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - safe_open is not a mapping
                    shapes[key] = tuple(tensors.get_slice(key).get_shape())
        except SafetensorError as error:
            raise BaseError(
                f"not a readable safetensors file ({error})", where=str(path)
            ) from error
    return shapes


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaseError(
            f"no {path.name} in this folder",
            where=str(path.parent),
            hint="Name a folder made by save_pretrained(), or a model on the Hugging Face Hub.",
        ) from error
    except (OSError, ValueError) as error:
        raise BaseError(f"not readable as JSON ({error})", where=str(path)) from error
    if not isinstance(value, dict):
        raise BaseError("not a JSON object", where=str(path))
    return value
