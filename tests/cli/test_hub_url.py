"""`--hub URL` from a machine without a hub: the same commands, the same output, nothing shared."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from safetensors.numpy import save_file

from hub.basefiles import read_base
from hub.home import Home
from hub.local import LocalHub
from hub.registry import Registry
from tests.command import Hub, Result
from tests.conftest import acts, adapter_config
from tests.serve.processes import soon
from tests.train.conftest import model_folder

__all__ = ["model_folder"]

RANK, HIDDEN = 4, 64
AT = "2030-01-01"
# Each is run once in a home and once from elsewhere, in this order, and ends with this status.
COMMANDS = [
    (0, "ls"),
    (0, "ls --json"),
    (0, "show support --json"),
    (1, "show nothing"),
    (0, "resolve support@candidate"),
    (0, f"resolve support --at {AT} --json"),
    (1, "resolve support@candidate --at 2020-01-01"),
    (0, "publish support made"),
    (0, "publish support made --json"),
    (1, "publish support damaged"),
    (4, "promote support@3"),
    (0, "promote support@2"),
    (1, "promote support@3 --expect 1 --force --why urgent"),
    (0, "promote support@3 --force --why urgent --json"),
    (0, "rollback support"),
    (1, "rollback support --to 4"),
    (0, "alias set support@1 canary"),
    (0, "alias protect canary"),
    (0, "alias ls"),
    (2, "alias rm support@canary"),
    (0, "alias rm support@canary --why done --json"),
    (0, "history support --json"),
    (0, "lineage support@2 --json"),
    (0, "diff support@1 support@3"),
    (0, "sign support@2 --key key"),
    (0, "verify support@2 --no-effect --key key.pub"),
    (1, "verify support@1 --no-effect --key key.pub --json"),
    (0, "verify --all --no-effect"),
    (1, "rm support@2"),
    (0, "rm support@1"),
    (1, "show support@1"),
    (0, "gc --dry-run --keep-days 0"),
    (0, "gc --keep-days 0 --json"),
    (0, "doctor"),
    (0, "rm support --adapter --why over --json"),
    (0, "ls"),
]


def write(folder: Path, seed: int) -> Path:
    """An adapter of the tiny Llama of the training tests."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(2):
        for half, shape in (("A", (RANK, HIDDEN)), ("B", (HIDDEN, RANK))):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight"
            tensors[name] = random.normal(size=shape).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = adapter_config(RANK, target_modules=["q_proj"])
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def template(tmp_path: Path, model_folder: Path) -> Home:
    """A hub with three versions of `support`, the second of them evaluated; copy it."""
    home = Home(tmp_path / "template")
    home.root.mkdir()
    with Registry.create(home) as registry:
        identity, shapes = read_base(model_folder, "tiny")
        registry.bases.add(str(model_folder), identity, shapes)
    with LocalHub.open(home, acts) as hub:
        for seed in (1, 2, 3):
            folder = write(tmp_path / f"made-{seed}", seed)
            lineage = {"seed": seed, "parent": "support@1" if seed == 2 else None}
            hub.publish("support", folder, lineage=lineage)
        hub.set_alias("support@2", "candidate", expect=0, force=False, why="try")
        dataset = hub.registry.ledger.add_dataset(
            digest="d" * 64, name="held-out", source="h.jsonl", format="messages", rows=9, lint={}
        )
        result = {"summary": "0.0% -> 90.0%", "reason": "better"}
        version = hub.registry.versions.get("support", 2)
        hub.registry.ledger.add_evaluation(
            version, against="base", dataset=dataset, metric="exact", verdict="PASS", result=result
        )
    return home


def furnish(folder: Path, key: Ed25519PrivateKey) -> Path:
    """What a user has in the folder where the commands are run."""
    write(folder / "made", 4)
    damaged = write(folder / "damaged", 5) / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "key").write_bytes(private)
    public = key.public_key().public_bytes_raw()
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + public
    (folder / "key.pub").write_text(f"ssh-ed25519 {b64encode(blob).decode()} me\n")
    return folder


@contextmanager
def registry_server(home: Path) -> Iterator[str]:
    """A `hub serve --registry-only` of its own; its address, as it prints it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--registry-only", "--port", "0"],
        cwd=home,
        env=Hub(home).environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[1]
    finally:
        process.terminate()
        assert process.wait(20) == 0


def comparable(result: Result, *folders: Path) -> tuple[int, str, str]:
    """Without what must differ: times, and places on a hub's own disk."""
    told = []
    for text in (result.stdout, result.stderr):
        for folder in folders:
            text = text.replace(str(folder), "FOLDER")
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME", text)
        text = re.sub(r"\d+(\.\d+)? [GT]B are free", "ROOM", text)
        lines = text.splitlines()
        places = r'\s+(folder|blobs) .*|\s+"(folder|store)": .*'
        told.append("\n".join(line for line in lines if not re.fullmatch(places, line)))
    return result.status, told[0], told[1]


def test_every_command_says_the_same_of_a_hub_elsewhere(template: Home, tmp_path: Path) -> None:
    """Text, JSON, errors and exit codes of the whole life of an adapter, effect check included."""
    key = Ed25519PrivateKey.generate()
    here = furnish(Path(shutil.copytree(template.root, tmp_path / "here")), key)
    there = Path(shutil.copytree(template.root, tmp_path / "there"))
    elsewhere = tmp_path / "elsewhere"
    furnish(elsewhere, key)

    def at_home() -> list[Result]:
        return [Hub(here)(*command.split()) for _, command in COMMANDS]

    def from_elsewhere() -> list[Result]:
        with registry_server(there) as url:
            return [Hub(elsewhere)(*command.split(), "--hub", url) for _, command in COMMANDS]

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(at_home), threads.submit(from_elsewhere)]
        ours, theirs = (future.result() for future in both)
    for (status, command), own, told in zip(COMMANDS, ours, theirs, strict=True):
        assert own.status == status, f"{command}:\n{own.stdout}\n{own.stderr}"
        assert comparable(told, elsewhere, there) == comparable(own, here), command
    assert {path.name for path in elsewhere.iterdir()} == {"damaged", "key", "key.pub", "made"}


def test_a_run_of_this_hub_is_published_to_another(template: Home, tmp_path: Path) -> None:
    """With its lineage; the base is found there by content; HUB_URL is --hub."""
    here = Home(Path(shutil.copytree(template.root, tmp_path / "here")))
    there = Path(shutil.copytree(template.root, tmp_path / "there"))
    with Registry.open(here) as registry:
        base = registry.bases.get()
        dataset = registry.ledger.dataset("d" * 64)
        assert dataset is not None
        run = registry.ledger.start_run("support", "sft", base, dataset, {})
        parent = registry.versions.get("support", 3)
        lineage = {
            "method": "sft",
            "seed": 9,
            "parent": str(parent),
            "parent_digest": parent.digest,
        }
        registry.ledger.finish_run(run.id, lineage)
    write(here.runs / run.id / "adapter", 9)
    with registry_server(there) as url:
        assert Hub(here.root).ok("publish", "support", "--hub", url).stdout.startswith("support@4")
        shown = Hub(tmp_path).ok("show", "support@4", "--hub", url, "--json").json()
        elsewhere = Hub(tmp_path).environment() | {"HUB_URL": url}
        listed = subprocess.run(
            [sys.executable, "-m", "hub", "ls"], cwd=tmp_path, env=elsewhere, capture_output=True
        )
    assert b"support" in listed.stdout
    assert (shown["lineage"]["seed"], shown["lineage"]["run"]) == (9, run.id)
    assert [parent["version"] for parent in shown["parents"]] == ["support@3"]


def test_what_is_neither_a_folder_nor_a_run_is_told_so(tmp_path: Path) -> None:
    """On a machine without a hub, before anything is asked of the other."""
    for source in (["nowhere"], []):
        refused = Hub(tmp_path)("publish", "support", *source, "--hub", "http://127.0.0.1:9")
        assert (refused.status, refused.stdout) == (1, "")
        assert "no hub is here" in refused.stderr


def test_a_registry_server_takes_no_option_of_an_engine(tmp_path: Path) -> None:
    """An option that nothing would read is refused, and so is a folder without a hub."""
    for option in (["--engine", "http://127.0.0.1:9"], ["--max-loras", "8"], ["--base", "tiny"]):
        refused = Hub(tmp_path)("serve", "--registry-only", *option)
        assert (refused.status, option[0] in refused.stderr) == (2, True)
    refused = Hub(tmp_path)("serve", "--registry-only")
    assert (refused.status, "hub init" in refused.stderr) == (1, True)


def test_a_publisher_that_is_killed_leaves_no_half_version(template: Home, tmp_path: Path) -> None:
    """Killed at any moment, there is the whole version or none, and the doctor finds all well."""
    home = Hub(template.root)
    with registry_server(template.root) as url:
        for attempt, wait in enumerate((0.3, 0.5, 0.6, 0.7, 0.8, 1.0)):
            folder = write(tmp_path / f"new-{attempt}", 10 + attempt)
            command = [sys.executable, "-m", "hub", "publish", "killed", folder, "--hub", url]
            process = subprocess.Popen(command, cwd=tmp_path, env=home.environment())
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
        # What had been asked for when its client died is done, or not: but it comes to an end.
        soon(lambda: not list(template.scratch.glob("publish-*")), 60)
        home.ok("doctor", "--hub", url)
        for attempt in range(6):
            Hub(tmp_path).ok("publish", "killed", f"new-{attempt}", "--hub", url)
        (listed,) = [
            entry
            for entry in Hub(tmp_path).ok("ls", "--json", "--hub", url).json()
            if entry["name"] == "killed"
        ]
    assert (listed["versions"], listed["newest"]) == (6, 6)
    assert list(template.scratch.iterdir()) == []
