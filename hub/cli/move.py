"""`hub pull` and `hub push`: adapters from elsewhere, and to elsewhere."""

import click

from hub.cli.output import hint, json_option, note, print_json, size
from hub.cli.where import hub_option, open_hub


@click.command()
@click.argument("source")
@click.option("--as", "name", metavar="NAME", help="What to call it here.")
@click.option("--base", help="The base of an adapter that does not say which it stands on.")
@hub_option
@json_option
def pull(
    source: str, name: str | None, base: str | None, hub_url: str | None, as_json: bool
) -> None:
    """Publish an adapter that lies elsewhere.

    SOURCE is a folder in PEFT layout, a tar of one, hf:OWNER/NAME[@REVISION] on the Hugging Face
    Hub, or http://HOST:PORT/NAME@3 in another hub. It passes the same checks as `hub publish`. What
    `hub push` wrote, or another hub gives, keeps its digest, lineage and signatures, and finds its
    base by content. The same bytes pulled again are the version that they already were.
    """
    from dataclasses import asdict

    from hub.transfer import pull as pull_

    with open_hub(hub_url) as hub:
        pulled = pull_(hub, source, name=name, base=base, open_hub=open_hub)
    found = pulled.published
    if as_json:
        moved = {"origin": pulled.origin, "left_out": pulled.left_out}
        print_json({**asdict(found), **moved})
        return
    click.echo(
        f"{found.version}  sha256:{found.digest[:12]}  rank {found.rank}, {size(found.size)}"
    )
    if commit := pulled.origin.get("commit"):
        note(f"It is {pulled.origin['from']} at commit {commit[:12]}.")
    if pulled.named_after:
        note(f"Named after '{pulled.named_after}'; --as NAME calls it otherwise.")
    if pulled.left_out:
        note(f"Left out, as no part of an adapter: {', '.join(pulled.left_out)}.")
    adapter, _, number = found.version.rpartition("@")
    if not found.created:
        note("These bytes are here already; nothing changed.")
    elif found.production == int(number):
        note(f"It is {adapter}'s production version.")
    else:
        hint(
            f"Production is still {adapter}@{found.production}. Next:"
            f" `hub eval {found.version} --data HELDOUT`, `hub promote {found.version}`."
        )


@click.command()
@click.argument("reference")
@click.argument("target")
@click.option("--public", is_flag=True, help="Make a missing repository public, not private.")
@hub_option
@json_option
def push(reference: str, target: str, public: bool, hub_url: str | None, as_json: bool) -> None:
    """Copy a version out, so that peft, vLLM or another hub can read it.

    TARGET is a folder that is not there yet, a .tar or .tar.gz (the same version always gives the
    same bytes), or hf:OWNER/NAME[@BRANCH] on the Hugging Face Hub: one commit, in a repository that
    is made if it is missing. Beside the adapter and its card goes loom.json, by which another
    hub's `hub pull` knows the version again.
    """
    from hub.transfer import push as push_

    with open_hub(hub_url) as hub:
        pushed = push_(hub, reference, target, public=public)
    if as_json:
        print_json(pushed)
        return
    click.echo(pushed.target)
    note(f"{pushed.version}  sha256:{pushed.digest[:12]}")
    if pushed.private is not None:
        note(f"The repository is {'private' if pushed.private else 'public'}.")
