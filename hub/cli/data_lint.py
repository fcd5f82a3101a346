"""`hub data lint`: what ruins a fine-tune, found in its data, and the safe part of it mended."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.data_options import base_option, map_option
from hub.cli.output import hint, json_option, note, print_json, print_table
from hub.errors import UsageError

if TYPE_CHECKING:
    from train.linting.findings import LintReport
    from train.linting.fix import Fix

_ROWS_SHOWN = 5
_DIFF_LINES = 2_000


@click.command("lint")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--heldout", multiple=True, type=click.Path(path_type=Path),
              help="Rows that must not be trained on; can be repeated.")  # fmt: skip
@base_option
@click.option("--max-length", type=click.IntRange(1),
              help="With --base: the most tokens of a row, if less than its context.")  # fmt: skip
@map_option
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave a rule out; can be repeated.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules, and stop.")
@click.option("--fix", is_flag=True, help="Mend what needs no judgement, and show the diff.")
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="With --fix: write the mended data to a new file or into a folder.")  # fmt: skip
@click.option("--in-place", is_flag=True,
              help="With --fix: replace the files; each is kept as FILE.orig.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print neither the findings nor the diff.")
@json_option
@click.pass_context
def lint_command(
    context: click.Context,
    files: tuple[Path, ...],
    heldout: tuple[Path, ...],
    base_name: str | None,
    max_length: int | None,
    columns: dict[str, str] | None,
    ignore: tuple[str, ...],
    list_rules: bool,
    fix: bool,
    out: Path | None,
    in_place: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find what ruins a fine-tune, before any computing is spent on it.

    Exit code 1 when an error was found; warnings and infos leave it at 0. --fix alone changes no
    file: it shows what would be mended, and lints what would be left.
    """
    if list_rules:
        _print_rules(as_json)
        return
    if not files:
        raise UsageError("no data file was given", hint="Such as `hub data lint tickets.jsonl`.")
    if (out or in_place) and not fix:
        raise UsageError("-o and --in-place say where --fix writes", hint="Add --fix.")
    if out and in_place:
        raise UsageError("-o and --in-place exclude each other")
    from train.data.formats import read_dataset

    options: dict[str, Any] = {
        "heldout": read_dataset(heldout, columns=columns) if heldout else None,
        "ignore": ignore,
        **_counting(base_name, max_length),
    }
    if fix:
        report, facts = _fix(files, columns, options, out, in_place, quiet or as_json)
    else:
        report, facts = _lint(files, columns, options), {}
    if as_json:
        print_json({**report.to_json(), **facts})
    else:
        print_report(report, quiet=quiet)
    context.exit(0 if report.ok else 1)


def _lint(
    files: tuple[Path, ...], columns: dict[str, str] | None, options: dict[str, Any]
) -> "LintReport":
    from train.linting.lint import lint
    from train.linting.read import read_for_lint

    dataset, faults = read_for_lint(files, columns=columns, stdin=sys.stdin.buffer)
    return lint(dataset, faults=faults, **options)


def _fix(
    files: tuple[Path, ...],
    columns: dict[str, str] | None,
    options: dict[str, Any],
    out: Path | None,
    in_place: bool,
    quiet: bool,
) -> tuple["LintReport", dict[str, Any]]:
    """Mend, write where that was asked for, and lint what is left."""
    from train.linting.fix import plan_fix, write_fix
    from train.linting.lint import lint

    plan = plan_fix(files, columns=columns, stdin=sys.stdin.buffer, ignore=options["ignore"])
    written = write_fix(plan, output=out) if out or in_place else []
    _print_fix(plan, written, quiet)
    if written:
        # What is on the disk now, under the numbers that its rows have now.
        report = _lint(tuple(written) if out else files, columns, options)
    else:
        report = lint(plan.dataset, faults=plan.faults, **options)
    facts = {
        "fixed": plan.changes,
        "diff": plan.diff,
        "written": [str(path) for path in written],
    }
    return report, {"fix": facts}


def _print_fix(plan: "Fix", written: list[Path], quiet: bool) -> None:
    diff = "" if quiet else plan.diff
    if diff.count("\n") > _DIFF_LINES and sys.stdout.isatty():
        hint(f"The diff has {diff.count(chr(10)):,} lines; pipe it into a file to read it.")
    else:
        for line in diff.splitlines(keepends=True):
            click.echo(_coloured(line), nl=False)
    for line in plan.summary():
        note(line)
    for path in written:
        note(f"written: {path}")
    if plan.changed and not written:
        hint("Nothing was written: --in-place replaces the files, -o FILE writes another.")


def _coloured(line: str) -> str:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return click.style(line, fg=colours[line[0]]) if line[:1] in colours else line


def print_report(report: "LintReport", *, quiet: bool = False) -> None:
    """The findings as a table, worst first, and one line that sums up."""
    if report.findings and not quiet:
        print_table(
            ["severity", "rule", "rows>", "what", "where"],
            [
                [f.severity, f.rule, len(f.rows) or "", f.reason, f.where(_ROWS_SHOWN)]
                for f in report.findings
            ],
        )
    if report.tokens is not None and not quiet:
        for line in report.tokens.lines():
            click.echo(line)
    verdict = "ready to train on" if report.ok else "not ready: mend the errors first"
    click.echo(f"{report.dataset}: {report.summary}; {verdict}")
    if any(finding.fixable for finding in report.findings) and not quiet:
        hint("--fix mends " + ", ".join(sorted({f.rule for f in report.findings if f.fixable})))


def _print_rules(as_json: bool) -> None:
    from train.linting.rules import RULES

    if as_json:
        print_json(
            [
                {"rule": r.name, "severity": r.severity, "about": r.about, "fixable": r.fixable}
                for r in RULES
            ]
        )
        return
    rows = [[r.severity, r.name, r.about, "--fix" if r.fixable else ""] for r in RULES]
    print_table(["severity", "rule", "what it finds", "mended by"], rows)


def _counting(base_name: str | None, max_length: int | None) -> dict[str, Any]:
    """How a base counts tokens, the most that a row may have, and the base's own marks."""
    if base_name is None:
        if max_length is not None:
            raise UsageError("--max-length counts tokens", hint="Name the base too: --base NAME.")
        return {}
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    require_extra("train", "transformers")
    from train.presets import BaseFacts
    from train.templates.tokens import ChatTokenizer

    with Registry.open(Home.from_environment()) as registry:
        base = registry.bases.get(base_name)
    chat = ChatTokenizer.load(base.source)
    return {
        "count_tokens": chat.count,
        "max_length": max_length or BaseFacts.of(base).context,
        "special_tokens": chat.tokenizer.all_special_tokens,
    }
