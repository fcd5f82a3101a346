"""`hub serve`: the gateway and its engine."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hub.cli.output import note
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.home import Home
    from hub.keys import PublicKey


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8000, show_default=True, help="0 takes any free one.")
@click.option("--base", "base_name", help="The base to serve; default: the hub's default base.")
@click.option("--engine", "engine_url", metavar="URL", help="A vLLM that is running already.")
@click.option("--registry-only", is_flag=True, help="No engine: keep the registry for others.")
@click.option(
    "--signed-by",
    "signed_by",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Serve only versions signed by a key in this file (.pub, PEM). Repeatable.",
)
@click.option("--max-loras", default=8, show_default=True, help="Adapters in one batch.")
@click.option("--max-cpu-loras", default=32, show_default=True, help="Adapters loaded at once.")
@click.option("--max-lora-rank", default=64, show_default=True, help="The highest rank served.")
@click.option("--kv-cache-gib", default=1, show_default=True, help="KV cache of a CPU engine.")
@click.option("--engine-args", default="", metavar="ARGS", help="Passed to vLLM as they are.")
@click.option("--startup-timeout", default=600.0, show_default=True, help="Seconds.")
@click.option(
    "--request-timeout", default=600.0, show_default=True, help="Seconds until an answer begins."
)
@click.option("--max-running", default=256, show_default=True, help="Requests at the engine.")
@click.option("--max-waiting", default=1024, show_default=True, help="Further ones get 429.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json has a line for every request.",
)
@click.pass_context
def serve(
    context: click.Context,
    host: str,
    port: int,
    base_name: str | None,
    engine_url: str | None,
    registry_only: bool,
    signed_by: tuple[Path, ...],
    max_loras: int,
    max_cpu_loras: int,
    max_lora_rank: int,
    kv_cache_gib: int,
    engine_args: str,
    startup_timeout: float,
    request_timeout: float,
    max_running: int,
    max_waiting: int,
    log_format: Literal["text", "json"],
) -> None:
    """Serve a base and every adapter on it.

    OpenAI's API is on /v1, the console on /console/. Adapters are loaded when they are first asked
    for. Promotions and new versions made by other commands are seen at the next request. Ctrl-C
    stops the server and its engine.

    The registry is on /hub: other machines use it with --hub URL. With --registry-only that is all,
    and neither a base nor vLLM is needed.
    """
    from hub.cli.extras import require_extra
    from hub.home import Home
    from hub.registry import Registry

    home = Home.from_environment()
    if registry_only:
        _refuse_engine_options(context)
        _serve_registry(home, host, port, log_format, _keys(signed_by))
        return
    with Registry.open(home) as registry:
        base = registry.bases.get(base_name)
    require_extra("serve", "fastapi", "aiohttp", "uvicorn", "orjson")
    if engine_url is None:
        require_extra("cpu", "vllm")
    from hub.cli.effect_process import EffectProcess
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
        request_timeout_s=request_timeout,
        max_running=max_running,
        max_waiting=max_waiting,
        log_format=log_format,
        signed_by=_keys(signed_by),
    )
    _tell_keys(settings.signed_by)
    with EffectProcess() as effect:
        run_gateway(home, settings, measure_effect=effect, announce=note)


def _serve_registry(
    home: "Home",
    host: str,
    port: int,
    log_format: Literal["text", "json"],
    signed_by: "tuple[PublicKey, ...]",
) -> None:
    from hub.cli.effect_process import EffectProcess
    from hub.cli.extras import require_extra

    require_extra("serve", "fastapi", "aiohttp", "uvicorn", "orjson")
    from serve.registry_server import run_registry
    from serve.settings import RegistrySettings

    settings = RegistrySettings(host=host, port=port, log_format=log_format, signed_by=signed_by)
    _tell_keys(signed_by)
    with EffectProcess() as effect:
        run_registry(home, settings, measure_effect=effect, announce=note)


def _refuse_engine_options(context: click.Context) -> None:
    """Raises UsageError: an option that nothing reads would look as if it did something."""
    own = ("host", "port", "registry_only", "log_format", "signed_by")
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in own and source is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{parameter.opts[0]} is about an engine, and --registry-only starts none"
            )


def _keys(files: tuple[Path, ...]) -> "tuple[PublicKey, ...]":
    """Raises UsageError for a file without a key, MissingExtra where none could be checked."""
    from hub.cli.extras import require_extra
    from hub.keys import read_public_keys

    if files:
        require_extra("sign", "cryptography")
    return tuple(dict.fromkeys(key for file in files for key in read_public_keys(file)))


def _tell_keys(signed_by: "tuple[PublicKey, ...]") -> None:
    if signed_by:
        note(f"serving only what is signed by {', '.join(key.key_id for key in signed_by)}")


def _split(arguments: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(arguments))
    except ValueError as error:
        raise UsageError(f"--engine-args: {error}") from error
