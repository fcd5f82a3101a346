"""`hub jobs`: what was asked for with OpenAI's fine-tuning API (docs/fine-tuning-api.md)."""

import click

from hub.cli.output import hint, json_option, note, print_json, print_table


@click.group()
def jobs() -> None:
    """List fine-tuning jobs, and work through those that wait."""


@jobs.command("ls")
@json_option
def list_jobs(as_json: bool) -> None:
    """List jobs, newest first."""
    from dataclasses import asdict

    from hub.home import Home
    from hub.registry import Registry

    with Registry.open(Home.from_environment()) as registry:
        found = registry.jobs.all()
    if as_json:
        print_json([asdict(job) for job in found])
    elif found:
        rows = [
            [
                job.id,
                job.status,
                f"{job.adapter}@{job.version}" if job.version else job.adapter,
                job.run or "-",
                job.created_at[:16].replace("T", " "),
            ]
            for job in found
        ]
        print_table(["job", "status", "adapter", "run", "created (UTC)"], rows)
    else:
        hint("No jobs yet: they come by POST /v1/fine_tuning/jobs.")


@jobs.command()
def work() -> None:
    """Train the jobs that wait, one at a time, until none is left.

    A server starts this by itself, in a process that outlives it. One at a time works for a hub:
    a second one has nothing to do and ends.
    """
    from hub.cli.extras import require_extra
    from hub.cli.job_worker import end_on_signal
    from hub.cli.job_worker import work as work_through
    from hub.home import Home

    require_extra("train", "torch", "transformers", "trl", "peft")
    home = Home.from_environment().require()
    end_on_signal()
    if not work_through(home):
        note("Another process is working through the jobs already.")
