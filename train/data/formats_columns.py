"""Records from columns: a Parquet file, or a data set on the Hugging Face Hub by its name.

Both are Arrow tables. A struct there has the same fields in every row, so the ones that a row lacks
come back as null; inside of a row they are left out again, as if they had not been written. Where
`datasets` could find no common type it keeps JSON text, which `train.data.formats_chat` decodes.

`pyarrow` and `datasets` come with the training extra and are imported only where one is read.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from hub.errors import InvalidData, MissingExtra
from train.data.formats_text import Numbered, Record
from train.runtime import quiet

_BATCH = 1000
_PART = r"[\w][\w.-]*"
_NAMED = re.compile(rf"({_PART}(?:/{_PART})?)(?::([^:\[\]]*))?(?::([^:\[\]]+))?(\[.*\])?")
_FILE_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".gz", ".txt", ".yaml")


@dataclass(frozen=True)
class HubName:
    """`hf:owner/name[:config][:split]`; `parts` are what follows the name, in their order."""

    name: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, source: str) -> "HubName | None":
        """The name of a data set, or None where a source can only be meant as a file."""
        marked = source.startswith("hf:")
        if not marked and ("/" not in source or source.endswith(_FILE_ENDINGS)):
            return None
        found = _NAMED.fullmatch(source.removeprefix("hf:"))
        if found is None:
            if marked:
                raise InvalidData(
                    "not the name of a data set",
                    where=source,
                    hint="It is hf:OWNER/NAME, hf:OWNER/NAME:SPLIT or hf:OWNER/NAME:CONFIG:SPLIT.",
                )
            return None
        name, *rest, sliced = found.groups()
        parts = [part for part in rest if part]
        if sliced:
            parts = [*parts[:-1], parts[-1] + sliced] if parts else [f"train{sliced}"]
        return cls(name, tuple(parts))


def parquet(file: str, stream: io.BufferedIOBase) -> Iterator[Numbered]:
    """The rows of a Parquet file, numbered from 1."""
    _need("pyarrow", "reading Parquet")
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    try:
        opened = ParquetFile(stream)
        number = 0
        for batch in opened.iter_batches(batch_size=_BATCH):
            for record in batch.to_pylist():
                number += 1
                yield number, without_nulls(record)
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidData(
            f"not a Parquet file, or a damaged one: {_first_line(error)}",
            where=file,
            hint="Copy or export the file again.",
        ) from error


def hub_dataset(source: str, name: HubName) -> Iterator[Numbered]:
    """The rows of one split of a data set on the Hub, downloaded or from the local cache.

    Raises:
        InvalidData: when there is no such data set, configuration or split, or no way to the Hub.
    """
    _need("datasets", "reading data sets of the Hugging Face Hub")
    import datasets  # type: ignore[import-untyped]
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()
    try:
        with quiet():
            config, split = _chosen(source, name)
            loaded = datasets.load_dataset(name.name, config, split=split)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise _unreachable(source, error) from error
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()
    number = 0
    # As Arrow, so that columns nobody asks for (pictures) are not decoded.
    for table in loaded.with_format("arrow").iter(batch_size=_BATCH):
        for record in table.to_pylist():
            number += 1
            yield number, without_nulls(record)


def _chosen(source: str, name: HubName) -> tuple[str | None, str]:
    """Configuration and split; a single part is a configuration where one is called so."""
    import datasets

    config, split = None, None
    match name.parts:
        case (one,) if one in datasets.get_dataset_config_names(name.name):
            config = one
        case (one,):
            split = one
        case (one, two):
            config, split = one, two
    if split is None:
        splits = datasets.get_dataset_split_names(name.name, config)
        if "train" not in splits and len(splits) > 1:
            raise InvalidData(
                f"there is no split 'train'; there are {', '.join(splits)}",
                where=source,
                hint=f"Name one: hf:{':'.join([name.name, *name.parts, splits[0]])}",
            )
        split = "train" if "train" in splits else splits[0]
    return config, split


def without_nulls(record: Record) -> Record:
    """A row without the nulls inside of its columns; a column that is null stays."""
    return {name: _pruned(value) for name, value in record.items()}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_pruned(part) for part in value]
    return value


def _unreachable(source: str, error: Exception) -> InvalidData:
    hint = "A file of that name is not here either; `hf:` before a name always means the Hub."
    if isinstance(error, ConnectionError) or "offline" in str(error).lower():
        hint = "The Hub can't be reached from here. " + hint
    return InvalidData(
        f"the data set can't be loaded from the Hugging Face Hub: {_first_line(error)}",
        where=source,
        hint=hint,
    )


def _need(module: str, doing: str) -> None:
    if find_spec(module) is None:
        raise MissingExtra(
            f"{doing} needs {module}, which the core leaves out",
            hint="Install it: pip install 'lora-loom[train]'; [cpu] or [gpu] holds everything.",
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
