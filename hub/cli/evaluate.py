"""`hub eval`: is a version better than the base, on rows that it never saw?"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.apikey import key_from_environment
from hub.cli.output import hint, json_option, percent, print_json, print_table, progress_bar
from hub.cli.where import hub_option, open_hub
from hub.errors import InvalidData

if TYPE_CHECKING:
    from hub.evaluation.ask import Answer, Question
    from hub.evaluation.statistics import Interval, Paired
    from hub.facts import VersionFacts

DEFAULT_SERVER = "http://127.0.0.1:8000"

server_option = click.option(
    "--server",
    default=lambda: os.environ.get("HUB_SERVER", DEFAULT_SERVER),
    show_default=f"HUB_SERVER, or {DEFAULT_SERVER}",
    help="The running `hub serve`.",
)


@click.command("eval")
@click.argument("reference")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The held-out rows.")
@click.option("--against", default="base", show_default=True, help="What to compare it with.")
@click.option(
    "--metric",
    type=click.Choice(["auto", "exact", "label", "json"]),
    default="auto",
    show_default=True,
    help="What counts as right; auto looks at the expected answers.",
)
@click.option("--bar", type=float, help="PASS wants a difference above this  [default: 0, or "
              "-0.05 against another version]")  # fmt: skip
@click.option("--max-tokens", default=256, show_default=True)
@click.option("--concurrency", default=8, show_default=True)
@click.option("--show", default=3, show_default=True, help="How many wrong answers to show.")
@server_option
@hub_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    reference: str,
    data: Path,
    against: str,
    metric: str,
    bar: float | None,
    max_tokens: int,
    concurrency: int,
    show: int,
    server: str,
    hub_url: str | None,
    as_json: bool,
) -> None:
    """Is a version better than the base, on held-out rows?

    Both are asked the same questions, and the difference comes with its interval. The verdict is
    kept with the version and is what `hub promote` obeys. Exit code 0 for PASS, 3 for FAIL, 4 for
    INSUFFICIENT. --hub names the hub that keeps the version, --server the one that answers for it.
    """
    from dataclasses import asdict

    from hub.evaluation.ask import ask
    from hub.evaluation.gate import EXIT_CODES, judge
    from hub.evaluation.metrics import METRICS, choose_metric
    from hub.evaluation.statistics import compare
    from hub.facts import Evaluated
    from hub.feedback.export import prompt_key
    from train.data.formats import read_dataset, require_kind

    with open_hub(hub_url) as hub:
        version = hub.show(reference)
        dataset = read_dataset([data])
        require_kind(dataset, "chat", "an evaluation")
        if dataset.digest == (version.lineage.get("dataset") or {}).get("digest"):
            raise InvalidData(
                f"these are the rows that {version.version} was trained on",
                where=dataset.source,
                hint="Evaluate on rows that it never saw; keep some apart before training.",
            )
        questions = _questions(dataset)
        expected = [question.expected for question in questions]
        chosen = choose_metric(expected) if metric == "auto" else metric
        with progress_bar() as bar_:
            task = bar_.add_task(
                f"asking {against} and {version.version}", total=2 * len(questions)
            )
            theirs, ours = ask(
                server.rstrip("/"),
                [against, version.version],
                questions,
                max_tokens=max_tokens,
                concurrency=concurrency,
                progress=lambda: bar_.advance(task),
                key=key_from_environment(),
            )
        _require_same(version, ours, server)
        right = METRICS[chosen]
        result = compare(
            [right(a.text, e) for a, e in zip(theirs, expected, strict=True)],
            [right(a.text, e) for a, e in zip(ours, expected, strict=True)],
        )
        if bar is None:
            bar = 0.0 if against == "base" else -0.05
        verdict = judge(result, bar)
        facts: dict[str, Any] = {
            "version": version.version,
            "against": theirs[0].version if against != "base" else "base",
            "metric": chosen,
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "summary": f"{percent(result.base)} -> {percent(result.tuned)} ({chosen}, "
            f"{result.rows} rows); {verdict.reason}",
            "bar": bar,
            **asdict(result),
            "base_seconds": _median([a.seconds for a in theirs]),
            "tuned_seconds": _median([a.seconds for a in ours]),
            "base_tokens": sum(a.completion_tokens for a in theirs),
            "tuned_tokens": sum(a.completion_tokens for a in ours),
            "prompts": [prompt_key(question.messages) for question in questions],
        }
        hub.record_evaluation(
            f"{version.adapter}@sha256:{version.digest}",
            Evaluated(
                against=facts["against"],
                dataset=dataset.name,
                dataset_digest=dataset.digest,
                source=dataset.source,
                format=dataset.format,
                rows=len(dataset.rows),
                metric=chosen,
                verdict=verdict.verdict,
                result=facts,
            ),
        )
    if as_json:
        print_json({key: value for key, value in facts.items() if key != "prompts"})
    else:
        _print(facts, result, show and _wrong(questions, ours, right)[:show])
    context.exit(EXIT_CODES[verdict.verdict])


def _require_same(version: "VersionFacts", answers: "list[Answer]", server: str) -> None:
    """Raises InvalidData unless the server answered with these very bytes: `support@3` may be
    another version in another hub."""
    answered = {answer.digest for answer in answers}
    if answered != {f"sha256:{version.digest}"}:
        raise InvalidData(
            f"the server at {server} answers with another {version.version} than the hub has",
            hint="Name the server that serves this hub with --server URL.",
        )


def _questions(dataset: Any) -> "list[Question]":
    from hub.evaluation.ask import Question

    questions = []
    for row in dataset.rows:
        messages = [{"role": m.role, "content": m.content} for m in row.messages]
        questions.append(Question(messages[:-1], messages[-1]["content"]))
    if not questions:
        raise InvalidData("there are no rows to evaluate", where=dataset.source)
    return questions


def _print(facts: dict[str, Any], result: "Paired", wrong: Any) -> None:
    print_table(
        ["arm", f"right ({facts['metric']})>", "95% interval>", "median s>", "tokens>"],
        [
            [facts["against"], percent(result.base), _span(result.base_interval),
             f"{facts['base_seconds']:.2f}", facts["base_tokens"]],
            [facts["version"], percent(result.tuned), _span(result.tuned_interval),
             f"{facts['tuned_seconds']:.2f}", facts["tuned_tokens"]],
        ],
    )  # fmt: skip
    color = {"PASS": "green", "FAIL": "red", "INSUFFICIENT": "yellow"}[facts["verdict"]]
    click.echo(f"{click.style(facts['verdict'], fg=color, bold=True)}: {facts['reason']}")
    click.echo(
        f"{result.rows} rows; only {facts['against']} right: {result.only_base}, only"
        f" {facts['version']} right: {result.only_tuned}; McNemar p = {result.p_value:.2g};"
        f" this many rows show differences of about {result.smallest:.0%} and more"
    )
    for question, answer in wrong or ():
        hint(f"  asked     {question.messages[-1]['content']}")
        hint(f"  expected  {question.expected}")
        hint(f"  answered  {answer.text}")


def _wrong(
    questions: "list[Question]", answers: "list[Answer]", right: Any
) -> "list[tuple[Question, Answer]]":
    pairs = zip(questions, answers, strict=True)
    return [(q, a) for q, a in pairs if not right(a.text, q.expected)]


def _span(interval: "Interval") -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _median(values: list[float]) -> float:
    from statistics import median

    return median(values)
