"""Mend what the lint found, where no judgement is needed: `hub data lint --fix`.

Four things are mended: whitespace around texts and Windows line ends; system prompts that differ
in whitespace only, and labels that differ in case or punctuation (the spelling that most rows have
wins; where none leads, labels stay); exact duplicates, of which the first stays. Mending what was
mended changes nothing.

A file keeps its format, its columns and every byte of the rows that are not touched. A row is
rewritten only where the new text reads back as exactly the row that was meant. Nothing here writes
a file before all of it is known, and a file that is replaced is kept beside it as `FILE.orig`.

Absent on purpose: whatever changes what a row says: misspelt labels, near duplicates, broken
letters. Parquet, compressed files and data sets of the Hub are linted but not rewritten.
"""

import io
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from hub.errors import InvalidData, UsageError
from train.data.formats_files import hub_name, kind_of, source_name
from train.data.formats_map import Columns
from train.data.rows import DataSet, Row
from train.linting.facts import Facts, identity
from train.linting.fix_text import Edited, edited, unified_diff
from train.linting.labels import facts_labels, usual_spelling
from train.linting.read import Fault, read_for_lint
from train.linting.text import system_spellings, trimmed_message


@dataclass(frozen=True)
class Mended:
    """A row before and after, and the rules that did it; `after` is None where it is dropped."""

    before: Row
    after: Row | None
    rules: frozenset[str]


@dataclass(frozen=True)
class Fix:
    """What `--fix` would do: the new text of each source, and the rows after it.

    `faults` are the rows that can't be read; they stay as they are.
    """

    files: tuple[Edited, ...]
    changes: dict[str, int]
    dataset: DataSet
    faults: tuple[Fault, ...]

    @property
    def changed(self) -> bool:
        return any(file.changed for file in self.files)

    @property
    def diff(self) -> str:
        return "".join(line for file in self.files for line in unified_diff(file))

    def summary(self) -> list[str]:
        """A line a file, and one of the rules that changed something."""
        lines = [
            f"{file.file}: {file.dropped} row{'' if file.dropped == 1 else 's'} dropped, "
            f"{file.rewritten} changed"
            for file in self.files
        ]
        rules = ", ".join(f"{rule} ({count})" for rule, count in sorted(self.changes.items()))
        return [*lines, f"mended: {rules}" if rules else "nothing to mend"]


def plan_fix(
    sources: Sequence[Path | str],
    *,
    columns: Columns | None = None,
    stdin: IO[bytes] | None = None,
    ignore: Sequence[str] = (),
) -> Fix:
    """Read the sources and work out what would be mended; writes nothing.

    Rules in `ignore` mend nothing.

    Raises:
        InvalidData: as reading them does, or when a source is of a kind that is not rewritten.
        UsageError: when one file is given twice: each of its rows would be a copy of itself.
    """
    _refuse_twice(sources)
    texts = [_bytes_of(source, stdin) for source in sources]
    piped = b"".join(raw for at, raw in zip(sources, texts, strict=True) if str(at) == "-")
    dataset, faults = read_for_lint(sources, columns=columns, stdin=io.BytesIO(piped))
    mended = mend(dataset, ignore=ignore)
    by_file: dict[str, dict[int, Mended]] = {}
    for change in mended:
        by_file.setdefault(change.before.file, {})[change.before.number] = change
    files = []
    done: list[Mended] = []
    for source, raw in zip(sources, texts, strict=True):
        file = source_name(source)
        wanted = {number: change.after for number, change in by_file.get(file, {}).items()}
        result = edited(file, raw, wanted, columns or {})
        files.append(result)
        done += [
            change for number, change in by_file.get(file, {}).items() if number in result.done
        ]
    changes = Counter(rule for one in done for rule in one.rules)
    return Fix(tuple(files), dict(changes), _after(dataset, files), faults)


def write_fix(fix: Fix, *, output: Path | None) -> list[Path]:
    """Write the new texts to `output` (a file, or a folder for several), or over their sources.

    A source that is replaced is kept as `FILE.orig`; if that name is taken, as `FILE.orig.2`. What
    is at `output` already is never written over.

    Raises:
        UsageError: when several files would go into one, or standard input over itself.
        InvalidData: when a place can't be written, or there is a file.
    """
    targets = [_target(file, output, len(fix.files)) for file in fix.files]
    _refuse_lossy(fix, targets, output)
    written: list[Path] = []
    for file, target in zip(fix.files, targets, strict=True):
        if output is None and not file.changed:
            continue
        try:
            _write(target, file.after, keep=output is None)
        except OSError as error:
            raise InvalidData(
                f"can't be written: {error.strerror or error}", where=str(target)
            ) from error
        written.append(target)
    return written


def mend(dataset: DataSet, *, ignore: Sequence[str] = ()) -> list[Mended]:
    """What changes, row by row, until nothing more does."""
    rows: list[Row | None] = list(dataset.rows)
    rules: dict[int, set[str]] = {}
    steps = {rule: step for rule, step in _STEPS.items() if rule not in ignore}
    changing = True
    while changing:
        changing = False
        # One rule at a time: each looks at what the one before it left.
        for rule, step in steps.items():
            kept = {at: row for at, row in enumerate(rows) if row is not None}
            for at, row in step(dataset.with_rows(kept.values()), list(kept)).items():
                changing = True
                rows[at] = row
                rules.setdefault(at, set()).add(rule)
    return [
        Mended(dataset.rows[at], rows[at], frozenset(names)) for at, names in sorted(rules.items())
    ]


# A step gives the new rows by their places; `places` are those of the data set's rows.


def _whitespace(dataset: DataSet, places: Sequence[int]) -> dict[int, Row | None]:
    changed: dict[int, Row | None] = {}
    for at, row in zip(places, dataset.rows, strict=True):
        messages = tuple(map(trimmed_message, row.messages))
        rejected = tuple(map(trimmed_message, row.rejected))
        if (messages, rejected) != (row.messages, row.rejected):
            changed[at] = replace(row, messages=messages, rejected=rejected)
    return changed


def _system(dataset: DataSet, places: Sequence[int]) -> dict[int, Row | None]:
    usual = {
        text: usual for usual, others in system_spellings(dataset.rows).items() for text in others
    }
    changed: dict[int, Row | None] = {}
    for at, row in zip(places, dataset.rows, strict=True):
        first = row.messages[0]
        if first.role == "system" and first.content in usual:
            text = usual[first.content]
            changed[at] = replace(row, messages=(replace(first, content=text), *row.messages[1:]))
    return changed


def _labels(dataset: DataSet, places: Sequence[int]) -> dict[int, Row | None]:
    at_row = {id(row): at for at, row in zip(places, dataset.rows, strict=True)}
    texts: dict[int, str] = {}
    for family in facts_labels(Facts(dataset, None)):
        for ways in family.spellings.values() if family.mendable else ():
            usual = usual_spelling(ways)
            for spelling, rows in ways.items() if usual is not None else ():
                for row in rows if spelling != usual else ():
                    at = at_row[id(row)]
                    texts[at] = texts.get(at, row.answer).replace(spelling, str(usual))
    by_place = dict(zip(places, dataset.rows, strict=True))
    return {at: _answered(by_place[at], text) for at, text in texts.items()}


def _answered(row: Row, text: str) -> Row:
    return replace(row, messages=(*row.messages[:-1], replace(row.messages[-1], content=text)))


def _duplicates(dataset: DataSet, places: Sequence[int]) -> dict[int, Row | None]:
    seen = set()
    dropped: dict[int, Row | None] = {}
    for at, row in zip(places, dataset.rows, strict=True):
        key = identity(row)
        if key in seen:
            dropped[at] = None
        seen.add(key)
    return dropped


_STEPS = {
    "stray-whitespace": _whitespace,
    "system-spelling": _system,
    "label-spelling": _labels,
    "exact-duplicate": _duplicates,
}


# Files


def _bytes_of(source: Path | str, stdin: IO[bytes] | None) -> bytes:
    """The whole source, where it is of a kind that can be written again."""
    kind = kind_of(source)
    if str(source) == "-":
        data = stdin.read() if stdin is not None else b""
    elif hub_name(source) is not None:
        data = None
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise InvalidData(f"can't be read: {reason}", where=str(source)) from error
    if data is not None and data[:2] == b"\x1f\x8b":
        raise InvalidData(
            "compressed files are not rewritten",
            where=source_name(source),
            hint="Unpack it first: gunzip FILE, or gzip -cd into a pipe and lint `-`.",
        )
    if data is None or kind == "parquet" or data[:4] == b"PAR1":
        raise InvalidData(
            "Parquet and data sets of the Hub are not rewritten",
            where=source_name(source),
            hint=f"Make a file of it first: `hub data convert {source} --to FORMAT -o rows.jsonl`.",
        )
    return data


def _after(dataset: DataSet, files: Sequence[Edited]) -> DataSet:
    changed = {(file.file, number): row for file in files for number, row in file.done.items()}
    rows = [changed.get((row.file, row.number), row) for row in dataset.rows]
    return dataset.with_rows(row for row in rows if row is not None)


def _target(file: Edited, output: Path | None, count: int) -> Path:
    if output is None:
        if file.file == "stdin":
            raise UsageError("standard input can't be changed in place", hint="Give -o FILE.")
        return Path(file.file).resolve()  # a link stays a link
    if output.is_dir() or count > 1:
        if not output.is_dir():
            raise UsageError(
                f"{count} files can't be written into one", hint="Give -o a folder that is there."
            )
        return output / Path(file.file).name
    return output


def _refuse_twice(sources: Sequence[Path | str]) -> None:
    seen: dict[Path, str] = {}
    for source in sources:
        file = Path(source).resolve()
        if file in seen:
            raise UsageError(f"'{source}' is the same file as '{seen[file]}': give it once")
        seen[file] = str(source)


def _refuse_lossy(fix: Fix, targets: Sequence[Path], output: Path | None) -> None:
    """Refuse before the first is written what would be lost under a name that is taken."""
    by_target: dict[Path, str] = {}
    for file, target in zip(fix.files, targets, strict=True):
        if target in by_target:
            raise UsageError(
                f"'{by_target[target]}' and '{file.file}' would both become '{target}'",
                hint="Mend them one after the other.",
            )
        by_target[target] = file.file
        if output is not None and target.exists():
            raise InvalidData(
                "the file exists",
                where=str(target),
                hint="Give another name; --in-place replaces what was read, and keeps it as .orig.",
            )


def _write(target: Path, text: bytes, *, keep: bool) -> None:
    """Beside its place and renamed, so that there is always one whole file under the name."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        if target.exists():
            shutil.copymode(target, scratch)
            if keep:
                shutil.copy2(target, _free(target))
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _free(target: Path) -> Path:
    """A name for the file as it was that nothing has."""
    names = (f"{target.name}.orig{ending}" for ending in ("", *(f".{n}" for n in range(2, 10_000))))
    return next(path for name in names if not (path := target.with_name(name)).exists())
