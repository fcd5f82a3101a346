"""`hub train`: data in, a published version out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.data_options import map_option
from hub.cli.output import json_option, progress_bar
from hub.cli.trained import finish, finish_sweep, register_base
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.home import Home
    from hub.records import Run
    from hub.registry import Registry


@click.command()
@click.argument("name")
@click.option("--data", "data_", multiple=True, type=click.Path(path_type=Path),
              help="Rows to train on; can be repeated.")  # fmt: skip
@map_option
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file; flags win over it.")
@click.option("--heldout", multiple=True, type=click.Path(path_type=Path),
              help="Rows that must not be in the data; can be repeated.")  # fmt: skip
@click.option("--base", help="The base; a folder or Hub model that is new is added first.")
@click.option("--from", "continue_from", metavar="REF", help="Continue from this version.")
@click.option("--method", type=click.Choice(["sft", "dpo", "kto", "full"]),
              help="From answers, pairs (dpo) or labels (kto); full trains the base.")  # fmt: skip
@click.option("--beta", type=float, help="How hard dpo and kto hold on to their reference.")
@click.option("--as", "publish_as", type=click.Choice(["adapter", "base"]),
              help="What full publishes: its difference, factored, or a base.")  # fmt: skip
@click.option("--name", "new_base", metavar="BASE", help="What --as base calls it; default: NAME.")
@click.option("--sweep", metavar="KEY[=A,B,C]",
              help="Try values of one setting (lr, rank, …) and publish the best.")  # fmt: skip
@click.option("--preset", type=click.Choice(["auto", "style", "task", "knowledge", "tiny"]))
@click.option("--rank", type=int)
@click.option("--alpha", type=float)
@click.option("--learning-rate", "--lr", type=float)
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--max-length", type=int, help="Tokens; longer rows are refused.")
@click.option("--validation", type=float, help="The share of rows kept to validate on.")
@click.option("--quantize", type=click.Choice(["nf4"]), help="QLoRA: the base in 4 bits.")
@click.option("--rslora", is_flag=True, default=None, help="Scale by the root of the rank.")
@click.option("--seed", type=int)
@click.option("--no-publish", is_flag=True, help="Stop before publishing; `hub publish` does it.")
@json_option
def train(
    name: str,
    data_: tuple[Path, ...],
    config: Path | None,
    heldout: tuple[Path, ...],
    no_publish: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train adapter NAME and publish it as its next version.

    The data is linted first: errors refuse the run before anything is loaded. What is not set
    follows from a preset chosen by the base's size and the number of rows.
    """
    from hub.home import Home
    from hub.registry import Registry
    from train.config import TrainConfig

    asked = TrainConfig.load(
        config, {"adapter": name, "data": data_ or None, "heldout": heldout or None, **settings}
    )
    home = Home.from_environment().require()
    with Registry.open(home) as registry:
        from hub.cli.base import find_or_add_base
        from train.run import run_training

        if asked.base is not None:
            base = find_or_add_base(registry, asked.base)
            asked = asked.model_copy(update={"base": base.name})
        if asked.sweep is not None:
            from train.sweep import run_sweep

            with _training_bar() as show:
                outcome = run_sweep(registry, home, asked, progress=show)
            finish_sweep(registry, home, outcome, no_publish=no_publish, as_json=as_json)
            return
        with _training_bar() as show:
            run = run_training(registry, home, asked, progress=show)
        finish(registry, home, run, no_publish=no_publish, as_json=as_json)


def resume_sweep(registry: "Registry", home: "Home", sweep: str, *, as_json: bool) -> None:
    """Finish a sweep that was killed or had runs that failed, and publish its best."""
    from train.sweep import resume_sweep as resume_sweep_

    with _training_bar() as show:
        outcome = resume_sweep_(registry, home, sweep, progress=show)
    finish_sweep(registry, home, outcome, no_publish=False, as_json=as_json)


def resume_run(registry: "Registry", home: "Home", run: "Run", *, as_json: bool) -> None:
    """Continue a run that was killed or failed, from its last checkpoint, and publish it."""
    from train.config import TrainConfig
    from train.run import run_training

    if sweep := (run.config.get("sweep") or {}).get("id"):
        resume_sweep(registry, home, sweep, as_json=as_json)
        return
    if run.status == "finished" and run.config.get("publish_as") == "base":
        register_base(registry, home, run)
    if run.status == "finished":
        raise UsageError(
            f"the run {run.id} is finished",
            hint=f"Publish it: `hub publish {run.adapter} {run.id}`.",
        )
    # The rest of what the run was told is in its own record.
    kept = ("adapter", "data", "heldout", "columns", "base", "method", "continue_from",
            "quantize", "seed")  # fmt: skip
    asked = TrainConfig.load(None, {key: run.config[key] for key in kept if key in run.config})
    with _training_bar() as show:
        run = run_training(registry, home, asked, progress=show, resume=run)
    finish(registry, home, run, no_publish=False, as_json=as_json)


class _training_bar:
    """A progress bar fed by the trainer's reports."""

    def __enter__(self) -> Any:
        from rich.progress import TextColumn

        self._bar = progress_bar(TextColumn("{task.fields[loss]}"))
        self._bar.start()
        self._task = self._bar.add_task("training", total=None, loss="")
        return self._show

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def _show(self, progress: Any) -> None:
        loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
        if progress.validation_loss is not None:
            loss += f"  validation {progress.validation_loss:.3f}"
        self._bar.update(self._task, description=progress.phase)
        if progress.note is not None:
            self._bar.console.print(progress.note, markup=False, highlight=False, soft_wrap=True)
        if progress.phase == "training":
            self._bar.update(
                self._task, completed=progress.step, total=progress.total or None, loss=loss
            )
