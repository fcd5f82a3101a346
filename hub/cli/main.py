"""The `hub` command: its list of commands, and the only place that turns errors into words."""

import os
import sys

import click

from hub.cli import (
    aliases,
    base,
    chat,
    data,
    demo,
    evaluate,
    feedback,
    housekeeping,
    initialise,
    jobs,
    keys,
    lineage,
    merge,
    move,
    residency,
    runs,
    serve,
    show,
    sign,
    train,
    verify,
)
from hub.cli import versions as versions_
from hub.cli.output import printable_lines
from hub.errors import HubError


class InOrder(click.Group):
    """Lists its commands in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="lora-loom", prog_name="hub")
def cli() -> None:
    """Train LoRA adapters, version them, serve any of them on one base model, compare, improve.

    A hub is a folder with registry.db in it: the current one, or the one that HUB_HOME names.
    """


for command in (
    demo.demo,
    initialise.init,
    base.base,
    data.data,
    train.train,
    runs.runs,
    jobs.jobs,
    versions_.publish,
    versions_.ls,
    show.show,
    versions_.resolve,
    lineage.lineage,
    lineage.diff,
    verify.verify,
    move.pull,
    move.push,
    sign.sign,
    merge.merge,
    serve.serve,
    residency.residency,
    keys.keys,
    chat.chat,
    evaluate.evaluate,
    aliases.promote,
    aliases.rollback,
    aliases.history,
    aliases.alias,
    feedback.feedback,
    feedback.export,
    housekeeping.rm,
    housekeeping.gc,
    housekeeping.backup,
    housekeeping.restore,
    housekeeping.doctor,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 gate FAIL, 4 INSUFFICIENT."""
    try:
        status = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except HubError as error:
        _explain(error)
        status = error.exit_code
    except BrokenPipeError:
        # The reader went away (`hub ls | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        # A bug of ours: say so in one line, and show the traceback to whoever asks for it.
        if _debugging():
            raise
        words = printable_lines(error)
        click.echo(f"error: unexpected {type(error).__name__}: {words}", err=True)
        click.echo("  This is a bug in Loom. HUB_DEBUG=1 shows where it happened.", err=True)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: HubError) -> None:
    if _debugging():
        import traceback

        traceback.print_exception(error)
    click.echo(f"{click.style('error', fg='red', bold=True)}: {printable_lines(error)}", err=True)
    if error.hint:
        click.echo(f"  {printable_lines(error.hint)}", err=True)


def _debugging() -> bool:
    return os.environ.get("HUB_DEBUG") == "1"
