"""examples/scale-out and docs/scale-out.md: what they say is what the programs take."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hub.records import Base
from serve.engines import vllm
from serve.engines.spec import EngineSpec, Loading
from serve.settings import Settings
from tests.conftest import write_base

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "scale-out"
PAGE = (ROOT / "docs" / "scale-out.md").read_text()
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.fixture(scope="module")
def serve_help() -> str:
    command = [sys.executable, "-m", "hub", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _said(script: str, program: str, folder: Path, **environment: str) -> list[str]:
    """What a script runs, told by a program that stands in its place."""
    stand_in = folder / program
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\nenv | grep ^VLLM || true\n')
    stand_in.chmod(0o755)
    words = environment.pop("arguments", "").split()
    done = subprocess.run(
        [EXAMPLES / script, *words],
        env={"PATH": f"{folder}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[1:]


@pytest.mark.parametrize("script", ["engine.sh", "lazy-engine.sh"])
def test_an_engine_is_started_as_the_gateway_starts_its_own(
    script: str, base: Base, tmp_path: Path
) -> None:
    """With flags that `hub serve` gives vLLM itself; on loopback unless told otherwise."""
    (launch,) = vllm.launches(Settings(base=replace(base, source=str(write_base(tmp_path / "b")))))
    said = _said(script, "python", tmp_path, BASE="tiny", ADAPTERS="/srv/adapters")
    assert said[:2] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert {word for word in said if word.startswith("--")} <= set(launch.command(8000))
    assert said[said.index("--model") + 1] == said[said.index("--served-model-name") + 1] == "tiny"
    assert said[said.index("--host") + 1] == "127.0.0.1"
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1" in said
    resolver = [
        "VLLM_PLUGINS=lora_filesystem_resolver",
        "VLLM_LORA_RESOLVER_CACHE_DIR=/srv/adapters",
    ]
    assert all((line in said) is (script == "lazy-engine.sh") for line in resolver)


def test_the_gateway_is_given_every_engine(serve_help: str, tmp_path: Path) -> None:
    """In the shape that --engine takes, braces included, and the folder where there is one."""
    ray = "http://ray:8000,loads=lazy,name={base}:{name}"
    said = _said(
        "gateway.sh",
        "hub",
        tmp_path,
        BASE="tiny",
        ADAPTERS="s3://b/a",
        arguments=f"http://g:1 {ray}",
    )
    assert said == [
        *("serve", "--base", "tiny", "--port", "8080", "--adapter-folder", "s3://b/a"),
        *("--engine", "http://g:1", "--engine", ray),
    ]
    assert all(f"{word} " in serve_help for word in said if word.startswith("--"))
    spec = EngineSpec.parse(ray)
    assert spec.loads is Loading.LAZY
    assert spec.model_name("starter", "support@3#9f2c00aa11bb") == "starter:support@3#9f2c00aa11bb"
    assert "--adapter-folder" not in _said("gateway.sh", "hub", tmp_path, BASE="tiny")


def test_ray_reads_what_the_gateway_fills() -> None:
    """The bucket of ray-serve.yaml is the one in the commands beside it, and on the page."""
    text = (EXAMPLES / "ray-serve.yaml").read_text()
    (config,) = yaml.safe_load(text)["applications"][0]["args"]["llm_configs"]
    bucket = config["lora_config"]["dynamic_lora_loading_path"]
    assert f"ADAPTERS={bucket} " in text
    assert f"--adapter-folder {bucket} " in PAGE
    assert config["model_loading_config"]["model_id"] == "starter"


def test_the_page_says_options_that_there_are(serve_help: str) -> None:
    """Every option of a `hub serve` line, and every file that the page links to."""
    commands = re.findall(r"hub serve((?:[^\n`|]|\\\n)*)", PAGE.replace("\\\n", " "))
    options = {flag for command in commands for flag in _FLAG.findall(command)}
    assert len(options) >= 5
    assert all(f"{option} " in serve_help for option in options), options
    links = re.findall(r"\]\((?!http|#)([^)#]+)", PAGE)
    assert len(links) >= 5
    assert all((ROOT / "docs" / link).exists() for link in links), links
