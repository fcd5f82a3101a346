"""`hub serve`: the gateway and its engine."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hub.cli.output import note
from hub.errors import UsageError

if TYPE_CHECKING:
    from hub.home import Home
    from hub.keys import PublicKey


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; without API keys on loopback only.",
)
@click.option("--port", default=8000, show_default=True, help="0 takes any free one.")
@click.option("--base", "base_name", help="The base to serve; default: the hub's default base.")
@click.option("--engines", default=1, show_default=True, help="How many of vLLM to start.")
@click.option(
    "--engine",
    "engines_elsewhere",
    multiple=True,
    metavar="URL[,OPTIONS]",
    help="One that is running already. Repeatable. Options: loads=explicit|lazy, api=vllm|sglang, "
    "name={base}:{name}.",
)
@click.option(
    "--adapter-folder",
    metavar="DIR|URL",
    help="Where engines with loads=lazy find adapters; the hub puts them there.",
)
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="REF",
    help="Load this at start and keep it loaded; a name follows its alias. Repeatable.",
)
@click.option("--registry-only", is_flag=True, help="No engine: keep the registry for others.")
@click.option(
    "--signed-by",
    "signed_by",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Serve only versions signed by a key in this file (.pub, PEM). Repeatable.",
)
@click.option(
    "--require-keys", is_flag=True, help="Want API keys even while there is none: see hub keys."
)
@click.option(
    "--without-keys",
    is_flag=True,
    help="Let everybody on this machine in although there were API keys, none living now.",
)
@click.option("--max-loras", default=8, show_default=True, help="Adapters in one batch.")
@click.option(
    "--max-cpu-loras",
    type=int,
    help="Adapters loaded at once; default: by the number of adapters, 32 to 128.",
)
@click.option(
    "--max-lora-rank",
    type=int,
    help="The highest rank served; default: the registry's highest, at least 64.",
)
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
    engines: int,
    engines_elsewhere: tuple[str, ...],
    adapter_folder: str | None,
    pins: tuple[str, ...],
    registry_only: bool,
    signed_by: tuple[Path, ...],
    require_keys: bool,
    without_keys: bool,
    max_loras: int,
    max_cpu_loras: int | None,
    max_lora_rank: int | None,
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
    keyed, require_keys, let_in = _who_is_let_in(home, require_keys, without_keys)
    if registry_only:
        _serve_registry(
            home,
            log_format=log_format,
            host=host,
            port=port,
            signed_by=_keys(signed_by),
            keyed=keyed,
            require_keys=require_keys,
            let_in=let_in,
        )
        return
    if engines_elsewhere and max_lora_rank is not None:
        raise UsageError(
            "--max-lora-rank is for engines that are started here, and --engine names others",
            hint="Give it to the engine itself, where that is started.",
        )
    with Registry.open(home) as registry:
        base = registry.bases.get(base_name)
        adapters, highest_rank = registry.load_on(base)
    require_extra("serve", "fastapi", "aiohttp", "uvicorn", "orjson")
    if not engines_elsewhere:
        require_extra("cpu", "vllm")
    from hub.cli.effect_process import EffectProcess
    from serve.engines.spec import EngineSpec
    from serve.run import run_gateway
    from serve.settings import Settings, cpu_slots_for, rank_for

    settings = Settings(
        base=base,
        host=host,
        port=port,
        engines=engines,
        engines_elsewhere=tuple(map(EngineSpec.parse, engines_elsewhere)),
        adapter_folder=adapter_folder,
        pins=tuple(dict.fromkeys(pins)),
        max_loras=max_loras,
        max_cpu_loras=(
            cpu_slots_for(adapters, max_loras) if max_cpu_loras is None else max_cpu_loras
        ),
        max_lora_rank=rank_for(highest_rank) if max_lora_rank is None else max_lora_rank,
        kv_cache_gib=kv_cache_gib,
        engine_args=_split(engine_args),
        startup_timeout_s=startup_timeout,
        request_timeout_s=request_timeout,
        max_running=max_running,
        max_waiting=max_waiting,
        log_format=log_format,
        signed_by=_keys(signed_by),
        keyed=keyed,
        require_keys=require_keys,
    )
    _tell_keys(settings.signed_by)
    with EffectProcess() as effect:
        run_gateway(home, settings, measure_effect=effect, announce=_announcing(let_in))


def _serve_registry(home: "Home", let_in: str, **asked: Any) -> None:
    """`asked` are the settings of a server without an engine."""
    from hub.cli.effect_process import EffectProcess
    from hub.cli.extras import require_extra

    require_extra("serve", "fastapi", "aiohttp", "uvicorn", "orjson")
    from serve.registry_server import run_registry
    from serve.settings import RegistrySettings

    settings = RegistrySettings(**asked)
    _tell_keys(settings.signed_by)
    with EffectProcess() as effect:
        run_registry(home, settings, measure_effect=effect, announce=_announcing(let_in))


def _refuse_engine_options(context: click.Context) -> None:
    """Raises UsageError: an option that nothing reads would look as if it did something."""
    own = (
        "host",
        "port",
        "registry_only",
        "log_format",
        "signed_by",
        "require_keys",
        "without_keys",
    )
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


def _who_is_let_in(home: "Home", require: bool, without: bool) -> tuple[bool, bool, str]:
    """Whether there is a living API key, whether one is wanted even if not, and a line that says
    what follows. A hub that ever had a key stays closed when the last one expires overnight, unless
    it is opened on purpose. Raises UsageError where that contradicts what else there is."""
    from hub.registry import Registry

    with Registry.open(home) as registry:
        found = registry.keys.all()
    living = sum(key.state == "living" for key in found)
    if without and require:
        raise UsageError("--without-keys and --require-keys contradict each other: leave one out")
    if without and living:
        raise UsageError(
            f"--without-keys, but of this hub's API keys {living} can still be used",
            hint="`hub keys ls` lists them, `hub keys revoke NAME` takes one back.",
        )
    if living or require:
        said = f"API keys are wanted from everybody; {living or 'none'} living (`hub keys ls`)"
    elif found and not without:
        said = (
            "API keys are wanted from everybody, and none is living: nobody is let in until there"
            " is one (`hub keys create NAME`; --without-keys opens this hub again)"
        )
    else:
        said = "no API keys: everybody on this machine is let in (`hub keys create NAME`)"
    return living > 0, require or bool(found and not without), said


def _announcing(let_in: str) -> Callable[[str], None]:
    def announce(text: str) -> None:
        note(text)
        if text.startswith("ready:"):
            note(let_in)

    return announce


def _tell_keys(signed_by: "tuple[PublicKey, ...]") -> None:
    if signed_by:
        note(f"serving only what is signed by {', '.join(key.key_id for key in signed_by)}")


def _split(arguments: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(arguments))
    except ValueError as error:
        raise UsageError(f"--engine-args: {error}") from error
