"""`hub serve`: the gateway and its engine."""

import shlex

import click

from hub.cli.output import note
from hub.errors import UsageError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8000, show_default=True, help="0 takes any free one.")
@click.option("--base", "base_name", help="The base to serve; default: the hub's default base.")
@click.option("--engine", "engine_url", metavar="URL", help="A vLLM that is running already.")
@click.option("--max-loras", default=8, show_default=True, help="Adapters in one batch.")
@click.option("--max-cpu-loras", default=32, show_default=True, help="Adapters loaded at once.")
@click.option("--max-lora-rank", default=64, show_default=True, help="The highest rank served.")
@click.option("--kv-cache-gib", default=1, show_default=True, help="KV cache of a CPU engine.")
@click.option("--engine-args", default="", metavar="ARGS", help="Passed to vLLM as they are.")
@click.option("--startup-timeout", default=600.0, show_default=True, help="Seconds.")
def serve(
    host: str,
    port: int,
    base_name: str | None,
    engine_url: str | None,
    max_loras: int,
    max_cpu_loras: int,
    max_lora_rank: int,
    kv_cache_gib: int,
    engine_args: str,
    startup_timeout: float,
) -> None:
    """Serve a base and every adapter on it.

    OpenAI's API is on /v1, the console on /console/. Adapters are loaded when they are first asked
    for. Promotions and new versions made by other commands are seen at the next request. Ctrl-C
    stops the server and its engine.
    """
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    with Registry.open(home) as registry:
        base = registry.bases.get(base_name)
    require_extra("serve", "fastapi", "aiohttp", "uvicorn", "orjson")
    if engine_url is None:
        require_extra("cpu", "vllm")
    from serve.run import run_gateway
    from serve.settings import Settings

    settings = Settings(
        base=base,
        host=host,
        port=port,
        engine_url=engine_url,
        max_loras=max_loras,
        max_cpu_loras=max_cpu_loras,
        max_lora_rank=max_lora_rank,
        kv_cache_gib=kv_cache_gib,
        engine_args=_split(engine_args),
        startup_timeout_s=startup_timeout,
    )
    run_gateway(home, settings, announce=note)


def _split(arguments: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(arguments))
    except ValueError as error:
        raise UsageError(f"--engine-args: {error}") from error
