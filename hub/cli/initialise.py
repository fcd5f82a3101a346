"""`hub init`: make a hub."""

import click

from hub.cli.output import hint, json_option, print_json


@click.command()
@json_option
def init(as_json: bool) -> None:
    """Make a hub in this folder (or HUB_HOME): registry.db and .hub/.

    Running it again changes nothing.
    """
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    known = home.exists()
    with Registry.create(home) as registry:
        bases = [base.name for base in registry.bases.all()]
    if as_json:
        print_json({"home": str(home.root), "created": not known, "bases": bases})
        return
    click.echo(f"{'already a hub' if known else 'made a hub'}: {home.root}")
    if not bases:
        hint("Next: `hub base starter` (a small model, built here) or `hub base add MODEL`.")
