"""The wheel is whole and light."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--wheel",
            "--outdir",
            str(folder),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_runs(wheel: Path) -> None:
    """All packages, the console's files and the demo's data; no tests, no database, no weights."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "hub/registry.py",
        "serve/console/index.html",
        "serve/console/console.js",
        "serve/console/console.css",
        "train/starter/build.py",
        "train/examples/support/heldout.jsonl",
    ):
        assert name in names
    tracked = {path.name for path in (ROOT / "serve" / "console").iterdir()}
    assert {
        name.rpartition("/")[2] for name in names if name.startswith("serve/console/")
    } == tracked
    assert not [name for name in names if name.endswith((".db", ".safetensors", ".bin"))]
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_core_installs_without_torch_or_vllm(wheel: Path, tmp_path: Path) -> None:
    """In a clean environment `hub --help` and `hub init` work, and what is missing is said."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [str(uv), "pip", "install", "--offline", "--quiet", "--python", str(python),
         "-c", str(ROOT / "constraints-cpu.txt"), str(wheel)],
        check=True,
    )  # fmt: skip
    hub = tmp_path / "venv" / "bin" / "hub"
    for arguments in (["--help"], ["init"], ["ls"]):
        done = subprocess.run(
            [str(hub), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    installed = {path.name for path in (tmp_path / "venv").glob("lib/*/site-packages/*")}
    assert not installed & {"torch", "vllm", "transformers", "fastapi"}
    refused = subprocess.run(
        [str(hub), "base", "starter"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "lora-loom[train]" in refused.stderr
