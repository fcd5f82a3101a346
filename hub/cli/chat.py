"""`hub chat`: one question to a running server, through the `openai` client."""

from collections.abc import Iterable
from typing import Any

import click

from hub.cli.apikey import key_from_environment
from hub.cli.evaluate import server_option
from hub.cli.output import json_option, note, print_json
from hub.errors import EngineError, EngineUnavailable


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--system", help="A system prompt.")
@click.option("--max-tokens", default=128, show_default=True)
@click.option("--temperature", default=0.0, show_default=True)
@server_option
@json_option
def chat(
    model: str,
    prompt: str,
    system: str | None,
    max_tokens: int,
    temperature: float,
    server: str,
    as_json: bool,
) -> None:
    """Ask a running server one question.

    MODEL is any reference: base, support, support@3. The answer streams to stdout; who answered,
    and the interaction's id for `hub feedback`, go to stderr.
    """
    from hub.cli.extras import require_extra

    require_extra("serve", "openai")
    from openai import APIConnectionError, APIError, APIStatusError, OpenAI

    client = OpenAI(
        base_url=f"{server.rstrip('/')}/v1",
        api_key=key_from_environment() or "none",
        max_retries=0,
    )
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=model,
            messages=messages,  # type: ignore[arg-type]
            max_tokens=max_tokens,
            temperature=temperature,
            stream=True,
        )
        pieces = []
        stream: Iterable[Any] = raw.parse()  # the client's stubs miss what a stream parses to
        for chunk in stream:
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                pieces.append(piece)
                if not as_json:
                    click.echo(piece, nl=False)
    except APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise EngineError(str(body.get("message", error.message))) from error
    except APIConnectionError as error:
        raise EngineUnavailable(
            f"no answer from the server at {server}",
            hint="Start it with `hub serve`, or name another with --server URL.",
        ) from error
    except APIError as error:
        raise EngineError(f"the answer was cut off: {error.message}") from error
    facts = {name: raw.headers.get(f"x-hub-{name}") for name in ("adapter", "interaction-id")}
    if as_json:
        print_json({"answer": "".join(pieces), **facts})
    else:
        click.echo()
        note(click.style(f"{facts['adapter']}  {facts['interaction-id']}", dim=True))
