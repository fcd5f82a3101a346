"""`hub demo`: the whole loop, each step printed as the plain `hub` command that does it, then run.

Every step is a process of its own, as it would be in a shell. The demo only sequences them and
reads what they left in the registry; it does nothing that its user could not type.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.base import STARTER
from hub.cli.output import hint, note, percent, print_table
from hub.errors import EngineStartFailed, HubError

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Evaluation

SUPPORT, PAYMENTS = "support", "payments"
# Tuned must beat base by at least this, with 95% confidence, or the demo fails.
WIDE_MARGIN = 0.25
# Nothing in the training data is like it, so the first version usually takes it for fraud.
CORRECTED_PROMPT = "Your website is very slow today."
CORRECTION = (
    "[Intent: General Inquiry] Thank you for your question. What would you like to know more about?"
    " I will find the right answer."
)
SERVER_START_S = 180.0
DEFAULT_PORT = 8000


@dataclass
class Stopwatch:
    """What each step took, in seconds, in order."""

    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.steps.append((title, time.perf_counter() - started))


@click.command()
@click.option("--exit", "exit_", is_flag=True, help="Stop at the end instead of serving on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="The server's port.")
def demo(exit_: bool, port: int) -> None:
    """Run the whole loop on this machine, step by step.

    It takes a few minutes on two CPU cores, downloads nothing, and leaves a hub in this folder (or
    HUB_HOME) that is yours to keep.
    """
    from hub.cli.extras import require_extra
    from hub.home import Home

    require_extra("cpu", "torch", "transformers", "peft", "trl", "vllm", "fastapi", "openai")
    from serve.doors.listen import listen

    home = Home.from_environment()
    examples = _examples()
    # A port in use is better found now than when two adapters are trained.
    listen("127.0.0.1", port).close()
    # A closed terminal or a plain `kill` ends the demo as Ctrl-C does, server included.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    watch = Stopwatch()
    server = f"http://127.0.0.1:{port}"
    os.environ["HUB_SERVER"] = server

    with watch.step("starter base"):
        _hub("Make a hub, and a small base model for it", "init")
        _hub("", "base", "starter")
    with watch.step("lint"):
        for task in (SUPPORT, PAYMENTS):
            _hub(
                "Look for what ruins fine-tunes, before training" if task == SUPPORT else "",
                "data", "lint", _file(examples, task, "train"),
                "--heldout", _file(examples, task, "heldout"),
            )  # fmt: skip
    seed = str(_newest(home, SUPPORT) + 1)
    with watch.step("train support"):
        _hub("Train an adapter; it ends as a published version", "train", SUPPORT,
             "--base", STARTER, "--data", _file(examples, SUPPORT, "train"),
             "--seed", seed)  # fmt: skip
    with watch.step("train payments"):
        _hub("Train a second task, and publish it as a step of its own",
             "train", PAYMENTS, "--base", STARTER, "--data", _file(examples, PAYMENTS, "train"),
             "--seed", seed, "--no-publish")  # fmt: skip
        _hub("", "publish", PAYMENTS)
        _hub("", "ls")
    first, payments = _newest(home, SUPPORT), _newest(home, PAYMENTS)
    with _serving(port, watch):
        with watch.step("chat"):
            _chats(f"{SUPPORT}@{first}", f"{PAYMENTS}@{payments}")
        with watch.step("evaluate both"):
            _evaluate(examples, SUPPORT, first, "Is tuned better than base, on rows never seen?")
            _evaluate(examples, PAYMENTS, payments)
        for task, number in ((SUPPORT, first), (PAYMENTS, payments)):
            if number > 1:
                _hub("", "promote", f"{task}@{number}", "--why", "demo")
        with watch.step("feedback and retraining"):
            second = _retrain(home, examples, first, seed)
        with watch.step("promote and roll back"):
            _hub("Promote; the running server follows at the next request",
                 "promote", f"{SUPPORT}@{second}", "--why", "learned from feedback")  # fmt: skip
            _hub("", "chat", SUPPORT, CORRECTED_PROMPT)
            _hub("And back again", "rollback", SUPPORT, "--why", "demo")
            _hub("", "chat", SUPPORT, CORRECTED_PROMPT)
            _hub("", "history", SUPPORT)
        _summary(home, watch, [(SUPPORT, first), (PAYMENTS, payments), (SUPPORT, second)])
        if not exit_:
            _stay(server)


def _chats(support: str, payments: str) -> None:
    prompt = "Someone used my card at a shop I do not know."
    _hub("Ask the base and the adapters, through the openai client", "chat", "base", prompt)
    _hub("", "chat", support, prompt)
    _hub("", "chat", payments, "Please send $45 to Ruth Ortiz on Friday.")


def _evaluate(examples: Path, task: str, number: int, title: str = "") -> None:
    _hub(title, "eval", f"{task}@{number}", "--data", _file(examples, task, "heldout"),
         "--show", "0", "--max-tokens", "80")  # fmt: skip


def _retrain(home: "Home", examples: Path, parent: int, seed: str) -> int:
    corrections = _shown(home.data / "corrections.jsonl")
    _hub("Correct an answer, and make a data set of what people said",
         "chat", f"{SUPPORT}@{parent}", CORRECTED_PROMPT)  # fmt: skip
    _hub("", "feedback", "--last", "--edit", CORRECTION)
    _hub("", "export", corrections, "--adapter", SUPPORT, "--force")
    _hub("Train the next version from this one, on the data and the correction", "train", SUPPORT,
         "--base", STARTER, "--from", f"{SUPPORT}@{parent}", "--epochs", "3",
         "--data", _file(examples, SUPPORT, "train"), "--data", corrections,
         "--seed", seed)  # fmt: skip
    number = _newest(home, SUPPORT)
    _evaluate(examples, SUPPORT, number, "The gate decides whether it may go to production")
    return number


@contextmanager
def _serving(port: int, watch: Stopwatch) -> Iterator[None]:
    """The server as a child process, up for as long as the block runs."""
    arguments = ["serve", "--base", STARTER, "--port", str(port)]
    _announce("Serve the base and every adapter on it", arguments)
    if port != DEFAULT_PORT:
        click.secho(f"$ export HUB_SERVER=http://127.0.0.1:{port}", bold=True)
    with watch.step("start the server"):
        process = subprocess.Popen([sys.executable, "-m", "hub", *arguments])
        try:
            _await_ready(process, port)
        except BaseException:  # Ctrl-C while it starts counts too: no server is left behind
            _stop(process)
            raise
    try:
        yield
    finally:
        _stop(process)


def _await_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    import httpx

    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineStartFailed("the server stopped while it started", log_tail="")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise EngineStartFailed(f"the server was not ready after {SERVER_START_S:.0f} s", log_tail="")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    process.wait()


def _hub(title: str, *arguments: str) -> None:
    """Print a command, run it, and fail as it failed."""
    _announce(title, list(arguments))
    result = subprocess.run([sys.executable, "-m", "hub", *arguments], check=False)
    if result.returncode != 0:
        raise HubError(
            f"`hub {arguments[0]}` ended with status {result.returncode}",
            hint="The lines above say why; the commands so far can be run one by one.",
        )


def _announce(title: str, arguments: list[str]) -> None:
    if title:
        click.secho(f"\n# {title}", fg="cyan")
    click.secho(f"$ hub {shlex.join(arguments)}", bold=True)
    sys.stdout.flush()


def _summary(home: "Home", watch: Stopwatch, versions: list[tuple[str, int]]) -> None:
    """The two closing tables; fails unless tuned beats base widely on both tasks."""
    found = [_evaluation(home, name, number) for name, number in versions]
    click.secho("\n# What came of it, on held-out rows", fg="cyan")
    print_table(
        ["version", "base>", "tuned>", "95% interval>", "difference>", "95% interval>", "gate"],
        [
            [
                e.version,
                percent(e.result["base"]),
                percent(e.result["tuned"]),
                _span(e.result["tuned_interval"]),
                f"{e.result['difference']:+.1%}",
                _span(e.result["difference_interval"]),
                e.verdict,
            ]
            for e in found
        ],
    )
    click.echo()
    total = sum(seconds for _, seconds in watch.steps)
    rows = [[title, f"{seconds:.0f}"] for title, seconds in watch.steps]
    print_table(["step", "seconds>"], [*rows, ["all", f"{total:.0f}"]])
    short = [e for e in found if e.result["difference_interval"]["low"] < WIDE_MARGIN]
    if short:
        raise HubError(
            f"{short[0].version} does not beat the base by {WIDE_MARGIN:.0%} for certain",
            hint=short[0].result["reason"],
        )


def _stay(server: str) -> None:
    click.secho(f"\nConsole   {server}/console/", bold=True)
    click.secho(f"Endpoint  {server}/v1   (any OpenAI client; no key on loopback)", bold=True)
    hint("Ctrl-C stops it. `hub serve` starts it again: everything is kept.")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        note("")


def _evaluation(home: "Home", name: str, number: int) -> "Evaluation":
    from hub.registry import Registry

    with Registry.open(home) as registry:
        return registry.ledger.evaluations(registry.versions.get(name, number))[0]


def _newest(home: "Home", name: str) -> int:
    from hub.registry import Registry

    with Registry.open(home) as registry:
        found = [entry.newest for entry in registry.summaries() if entry.name == name]
    return (found[0] or 0) if found else 0


def _examples() -> Path:
    """The examples: beside the packages in a clone, inside `train` in an installed wheel."""
    import train

    package = Path(str(train.__file__)).parent
    for folder in (package.parent / "examples", package / "examples"):
        if (folder / SUPPORT / "train.jsonl").is_file():
            return folder
    raise HubError("the example data is missing", hint="Install Loom again, or run in a clone.")


def _file(examples: Path, task: str, part: str) -> str:
    return _shown(examples / task / f"{part}.jsonl")


def _shown(path: Path) -> str:
    """Relative to the current folder where it lies below it: short, and copied easily."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _span(interval: dict[str, float]) -> str:
    return f"{percent(interval['low'])} to {percent(interval['high'])}"
