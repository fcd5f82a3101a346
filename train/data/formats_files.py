"""From a source to numbered records: a file, standard input, or a data set's name on the Hub.

    rows.jsonl rows.json rows.csv rows.tsv rows.parquet   each also compressed by gzip
    -                                                     standard input, of any of these kinds
    hf:owner/name[:config][:split]                        a data set; without hf: if no file is so

What a file is, its name says; where that says nothing, its first bytes do. A record is still in its
own shape (`train.data.formats_shapes` reads that).

Absent on purpose: folders, pipes and devices by name (they may have no end, or not be readable a
second time), and compression other than gzip.
"""

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hub.errors import InvalidData
from train.data.formats_columns import HubName, hub_dataset, parquet
from train.data.formats_text import READABLE, Numbered, Uneven, json_list, jsonl, table

STDIN = "-"
_KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

# Both can be looked into without being moved on.
Stream = io.BufferedReader | gzip.GzipFile


def source_name(source: Path | str) -> str:
    """How messages and records call a source."""
    return "stdin" if str(source) == STDIN else str(source)


def hub_name(source: Path | str) -> HubName | None:
    """The data set that a source names, or None where it is a file's path (or `-`)."""
    text = str(source)
    # In a folder that is here a misspelt file is meant, and asking the Hub for it takes long.
    here = Path(text).exists() or (Path(text).parent != Path() and Path(text).parent.exists())
    if text == STDIN or (here and not text.startswith("hf:")):
        return None
    return HubName.parse(text)


def kept_name(source: Path | str) -> str:
    """A source as a run records it: a file by its whole path, a data set by its name."""
    return str(source) if hub_name(source) else str(Path(source).resolve())


def stem_of(source: Path | str) -> str:
    """A short name of a source, without folders and endings."""
    if name := hub_name(source):
        return name.name.rpartition("/")[2]
    path = Path(source_name(source))
    return path.with_suffix("").stem if path.suffix == ".gz" else path.stem


def records_of(
    source: Path | str, stdin: IO[bytes] | None = None, uneven: Uneven | None = None
) -> list[Numbered]:
    """The records of one source with their numbers: lines for JSONL and CSV, else places.

    `stdin` is what `-` reads; without it `-` is refused. `uneven` is told the rows of a table that
    don't have the header's number of fields; without it they are refused.

    Raises:
        InvalidData: when the source is missing, a folder, empty, not text, or malformed.
        MissingExtra: when it needs a library that is not installed.
    """
    name = hub_name(source)
    file = source_name(source)
    if name is not None:
        records = list(hub_dataset(file, name))
    else:
        with _opened(source, file, stdin) as stream:
            records = list(_parsed(file, stream, kind_of(source), uneven))
    if not records:
        raise InvalidData("there are no rows in the file", where=file, hint=READABLE)
    return records


@contextmanager
def json_lines(source: Path | str, stdin: IO[bytes] | None = None) -> Iterator[Stream | None]:
    """The source, opened, where it is JSON Lines; None where it is anything else.

    Raises:
        InvalidData: as `records_of` does.
    """
    kind = kind_of(source)
    if hub_name(source) is not None or kind not in (None, "jsonl"):
        yield None
        return
    with _opened(source, source_name(source), stdin) as stream:
        start = _start(stream)
        others = (b"[", _PARQUET, *_UTF16)  # whatever the name says
        are_lines = start.startswith(b"{") or (kind == "jsonl" and not start.startswith(others))
        yield stream if start and are_lines else None


def kind_of(source: Path | str) -> str | None:
    """`jsonl`, `json`, `csv`, `tsv` or `parquet` by a path's ending; None where it has no such."""
    path = Path(source)
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    return _KINDS.get(suffix.lower())


@contextmanager
def _opened(source: Path | str, file: str, stdin: IO[bytes] | None) -> Iterator[Stream]:
    if str(source) == STDIN:
        if stdin is None:
            raise InvalidData(
                "standard input can't be used here, because it is read more than once",
                where="-",
                hint="Save it to a file first.",
            )
        # Whole in memory: Parquet is read from its end.
        with io.BytesIO(stdin.read()) as held, _plain(file, io.BufferedReader(held)) as stream:
            yield stream
        return
    path = Path(source)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InvalidData("this is a folder, not a file", where=file, hint=READABLE)
        if not stat.S_ISREG(mode):  # it may have no end
            raise InvalidData(
                "this is a device or a pipe", where=file, hint="Give a file, or `-` and pipe it in."
            )
        with path.open("rb") as opened, _plain(file, opened) as stream:
            yield stream
    except FileNotFoundError as error:
        raise InvalidData("no such file", where=file, hint=READABLE) from error
    except OSError as error:
        raise InvalidData(f"can't be read: {error.strerror or error}", where=file) from error


@contextmanager
def _plain(file: str, stream: io.BufferedReader) -> Iterator[Stream]:
    """The stream, uncompressed where it is compressed."""
    if stream.peek(2)[:2] != _GZIP:
        yield stream
        return
    try:
        with gzip.GzipFile(fileobj=stream) as compressed:
            yield compressed
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidData(
            "the compressed file is cut off or damaged",
            where=file,
            hint="Copy or download it again.",
        ) from error


def _parsed(
    file: str, stream: Stream, kind: str | None, uneven: Uneven | None
) -> Iterator[Numbered]:
    start = _start(stream)
    if start.startswith(_PARQUET):
        # Read from its end, which is slow in what is compressed.
        packed = isinstance(stream, gzip.GzipFile)
        return parquet(file, io.BytesIO(stream.read()) if packed else stream)
    if start.startswith(_UTF16):
        raise InvalidData(
            "this is UTF-16, not UTF-8",
            where=file,
            hint="iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8",
        )
    if not start:
        raise InvalidData("the file is empty", where=file, hint=READABLE)
    match kind or _sniffed(file, start):
        case "parquet":
            raise InvalidData(
                "not a Parquet file, although it is called so", where=file, hint=READABLE
            )
        case "csv":
            return table(file, stream, uneven=uneven)
        case "tsv":
            return table(file, stream, delimiter="\t", uneven=uneven)
        case "jsonl" if not start.startswith(b"["):
            return jsonl(file, stream)
    return json_list(file, stream)


def _start(stream: Stream) -> bytes:
    """The first bytes after a mark and white space; b'' where the file holds nothing else."""
    seen = stream.peek(1)
    start = seen.removeprefix(_BOM).lstrip()
    # A buffer full of blanks may have rows after it: the reader of its kind will see.
    return start or (seen if len(seen) >= io.DEFAULT_BUFFER_SIZE else b"")


def _sniffed(file: str, start: bytes) -> str:
    if start.startswith(b"["):
        return "json"
    if start.startswith(b"{"):
        return "jsonl"
    header = start.split(b"\n", 1)[0]
    if file == "stdin" and any(mark in header for mark in b",;\t"):
        return "csv"
    raise InvalidData(
        f"'{Path(file).suffix or file}' is not a kind of file that can be trained on",
        where=file,
        hint=READABLE,
    )
