"""`hub data convert|split|stats`: rows into other formats, into two sets, and in figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.data_options import base_option, files_argument, map_option, read, token_counter
from hub.cli.output import hint, json_option, note, print_json, print_table
from hub.errors import InvalidData, UsageError

if TYPE_CHECKING:
    from train.data.convert import Converted
    from train.data.rows import DataSet
    from train.linting.stats import Stats

_TARGETS = (
    "messages", "alpaca", "prompt-completion", "sharegpt", "openai", "dpo", "openai-dpo", "kto",
)  # fmt: skip
_WITH_TEXT = ("prompt-completion", "dpo", "kto")


@click.command()
@files_argument
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="The new format.")
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="A file, of the kind that its ending says; else JSONL to stdout.")  # fmt: skip
@click.option("--text", is_flag=True, help="Prompts and answers as text, not as messages.")
@click.option("--strict", is_flag=True, help="Whatever would be lost is an error.")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
@map_option
@json_option
def convert(
    files: tuple[Path, ...],
    target: str,
    out: Path | None,
    text: bool,
    strict: bool,
    force: bool,
    columns: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Write rows in another format, and say on stderr what it could not hold.

    Every record is read back and compared with its row, so what is not mentioned came along.
    """
    from train.data.formats_write import line_of, write_records

    if text and target not in _WITH_TEXT:
        raise UsageError(f"--text is for {', '.join(_WITH_TEXT)}; '{target}' has one form")
    if as_json and out is None:
        raise UsageError("--json tells about a file that was written", hint="Name it with -o.")
    dataset = read(files, columns)
    converted = _converted(dataset, target, text, out)
    for loss in converted.losses:
        note(f"lost: {loss}")
    if not converted.records:
        raise InvalidData(f"no row can be written as '{target}'", where=dataset.source)
    if strict and converted.losses:
        raise InvalidData(
            f"'{target}' does not hold everything, and --strict was asked for; nothing was written",
            where=dataset.source,
        )
    if out is None:
        for record in converted.records:
            click.echo(line_of(record))
        return
    write_records(out, converted.records, force=force)
    if as_json:
        print_json(_account(converted, out))
    else:
        note(f"{out}: {len(converted.records):,} records from {len(dataset):,} rows")


def _converted(dataset: "DataSet", target: str, text: bool, out: Path | None) -> "Converted":
    from train.data.convert import convert
    from train.data.formats_files import kind_of

    if text or out is None or kind_of(out) not in ("csv", "tsv") or target not in _WITH_TEXT:
        return convert(dataset, target, as_text=text)
    # A table is read by people: text in it, unless rows would be left out for that.
    plain, full = convert(dataset, target, as_text=True), convert(dataset, target)
    return plain if len(plain.records) == len(full.records) else full


def _account(converted: "Converted", out: Path) -> dict[str, Any]:
    return {
        "file": str(out),
        "records": len(converted.records),
        "losses": [
            {"what": loss.what, "count": len(loss.rows),
             "rows": [{"file": row.file, "row": row.number} for row in loss.rows]}
            for loss in converted.losses
        ],
    }  # fmt: skip


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--heldout", type=click.FloatRange(0, 0.5, min_open=True), default=0.1,
              show_default=True, metavar="SHARE", help="The share to hold out.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The folder to write into.")
@click.option("--force", is_flag=True, help="Write over files that exist.")
@map_option
@json_option
def split(
    file: Path,
    heldout: float,
    out: Path | None,
    force: bool,
    columns: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Divide FILE into NAME-train and NAME-heldout, as they are, for training and for `hub eval`.

    A row's side depends on what it asks alone: adding rows moves none from training to held-out.
    Rows that ask nearly the same stay together.
    """
    import sys

    from train.data.formats import read_source
    from train.data.formats_files import hub_name, kind_of, stem_of
    from train.data.formats_write import write_records
    from train.data.near import near_key
    from train.data.rows import DataSet
    from train.data.split import MIN_ROWS
    from train.data.split import split as divide

    read_ = read_source(file, columns or {}, sys.stdin.buffer)
    whole = DataSet(stem_of(file), str(file), read_.shape.name, tuple(read_.rows))
    held = divide(whole, validation=heldout, key=near_key(whole.rows))[1]
    kept = {row.number for row in held.rows}
    if not kept:
        raise InvalidData(
            f"none of the {len(whole)} rows can be held out: {MIN_ROWS} that ask different things "
            "are needed",
            where=str(file),
            hint="Questions that differ only in numbers, case or a few words count as one.",
        )
    named = kind_of(file) is not None and hub_name(file) is None
    endings = "".join(file.suffixes[-2:] if file.suffix == ".gz" else file.suffixes[-1:])
    folder = out or (file.parent if named else Path())
    made: dict[str, Any] = {}
    paths = [folder / f"{whole.name}-{side}{endings if named else '.jsonl'}"
             for side in ("train", "heldout")]  # fmt: skip
    if taken := next((path for path in paths if path.exists() and not force), None):
        raise InvalidData("the file exists", where=str(taken), hint="--force writes over it.")
    for path, side in zip(paths, ("train", "heldout"), strict=True):
        records = [
            record for number, record in read_.records if (number in kept) == (side == "heldout")
        ]
        write_records(path, records, force=force)
        made[side] = {"file": str(path), "rows": len(records)}
    if as_json:
        print_json(made)
        return
    print_table(["file", "rows>"], [[one["file"], one["rows"]] for one in made.values()])
    hint(f"Next: `hub data lint {paths[0]} --heldout {paths[1]}`")


@click.command("stats")
@files_argument
@base_option
@map_option
@json_option
def stats_command(
    files: tuple[Path, ...],
    base_name: str | None,
    columns: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Count rows, turns and lengths; with --base also tokens, under its own chat template."""
    from train.linting.stats import stats

    dataset = read(files, columns)
    count, limit = token_counter(base_name) if base_name else (None, None)
    figures = stats(dataset, count_tokens=count, limit=limit)
    if as_json:
        print_json(figures.to_json())
    else:
        _print_stats(figures)


def _print_stats(figures: "Stats") -> None:
    click.echo(
        f"{figures.name}: {figures.rows:,} row{'' if figures.rows == 1 else 's'}, {figures.kind}, "
        f"format {figures.format}, sha256:{figures.digest[:12]}"
    )
    roles = ", ".join(f"{count:,} {role}" for role, count in figures.messages.items())
    click.echo(f"messages: {roles}")
    for name, count in figures.features.items():
        click.echo(f"{name}: {count:,} rows ({count / figures.rows:.0%})")
    print_table(
        ["", "least>", "median>", "mean>", "95%>", "most>", "sum>"],
        [
            [name if name == "turns" else f"{name}, characters",
             *(f"{value:,}" for value in (s.least, s.median, s.mean, s.p95, s.most, s.total))]
            for name, s in figures.spreads.items()
        ],
    )  # fmt: skip
    if figures.tokens is not None:
        for line in figures.tokens.lines():
            click.echo(line)
