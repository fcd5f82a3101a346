"""The commands on a registry without an engine: output, JSON, exit codes, lightness."""

import subprocess
import sys
from pathlib import Path

import pytest

from hub.home import Home
from hub.publish import publish
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, adapter_tensors, write_adapter


@pytest.fixture
def hub(home: Home, registry: Registry) -> Hub:
    return Hub(home.root)


@pytest.fixture
def versions(registry: Registry, store: Store, base: Base, tmp_path: Path) -> list[Version]:
    """support@1, @2 and @3."""
    return [
        publish(
            registry, store, "support", write_adapter(tmp_path / str(seed), adapter_tensors(seed)),
            base, measure_effect=acts, lineage={"seed": seed},
        )[0]
        for seed in (1, 2, 3)
    ]  # fmt: skip


def test_promote_rollback_history(hub: Hub, versions: list[Version]) -> None:
    """The whole life of an alias on the command line, with its reasons kept."""
    assert hub.ok("resolve", "support", "--json").json()["version"] == "support@1"
    hub.ok("promote", "support@2", "--force", "--why", "looks good")
    hub.ok("promote", "support@3", "--force", "--why", "better", "--expect", "2")
    lost = hub("promote", "support@2", "--force", "--why", "x", "--expect", "1")
    assert lost.status == 1
    assert "is version 3 now, not 1" in lost.stderr
    hub.ok("rollback", "support", "--why", "broke")
    assert hub.ok("resolve", "support", "--json").json()["version"] == "support@2"
    moves = hub.ok("history", "support", "--json").json()
    assert [(m["action"], m["to_number"], m["why"], m["forced"]) for m in moves] == [
        ("rollback", 2, "broke", False),
        ("promote", 3, "better", True),
        ("promote", 2, "looks good", True),
        ("publish", 1, "first version", False),
    ]
    hub.ok("rollback", "support", "--to", "3")
    assert hub("rollback", "support", "--to", "0").status == 1
    assert "support@production -> support@1" in hub.ok("rollback", "support", "--to", 1).stdout


def test_rolling_back_is_no_way_around_the_gate(hub: Hub, versions: list[Version]) -> None:
    """A version that was never in production is promoted, with its verdict, or not at all."""
    refused = hub("rollback", "support", "--to", "3")
    assert refused.status == 1
    assert "never been in production" in refused.stderr
    again = hub("promote", "support@1", "--force", "--why", "x")
    assert again.status == 1
    assert "already" in again.stderr


def test_other_aliases_need_no_verdict(hub: Hub, versions: list[Version]) -> None:
    """Only production is protected by the gate."""
    hub.ok("promote", "support@3", "--to", "candidate")
    assert hub.ok("resolve", "support@candidate").stdout.startswith("support@3 ")
    assert "candidate 3, production 1" in hub.ok("ls").stdout


def test_resolve_at_a_time(hub: Hub, versions: list[Version]) -> None:
    """`--at` answers from the history, and refuses what is no time."""
    hub.ok("promote", "support@2", "--force", "--why", "x")
    assert hub.ok("resolve", "support", "--at", "9999-01-01").stdout.startswith("support@2 ")
    assert hub("resolve", "support", "--at", "2000-01-01").status == 1
    assert hub("resolve", "support", "--at", "tomorrow").status == 2


def test_show_tells_where_a_version_comes_from(hub: Hub, versions: list[Version]) -> None:
    """Digest, base, folder and lineage, in text and as JSON."""
    shown = hub.ok("show", "support@2", "--json").json()
    assert shown["digest"] == versions[1].digest
    assert shown["lineage"]["seed"] == 2
    assert (Path(shown["folder"]) / "adapter_model.safetensors").is_file()
    assert versions[1].digest in hub.ok("show", "support@2").stdout


def test_init_twice_changes_nothing(hub: Hub, versions: list[Version]) -> None:
    """A hub is never overwritten."""
    before = hub.ok("ls", "--json").json()
    assert "already a hub" in hub.ok("init").stdout
    assert hub.ok("ls", "--json").json() == before


def test_tables_are_not_cut_in_a_pipe(
    hub: Hub, registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """`hub ls | grep` sees whole names."""
    name = "team-with-a-rather-long-name/adapter-with-a-name-of-sixty-four-letters-at-most"
    publish(
        registry, store, name, write_adapter(tmp_path / "a"), base,
        measure_effect=acts, lineage={},
    )  # fmt: skip
    assert name in hub.ok("ls").stdout


def test_a_closed_pipe_is_no_traceback(hub: Hub, versions: list[Version]) -> None:
    """`hub ls | head -0` ends quietly."""
    command = f"{sys.executable} -m hub history support | head -c 1"
    done = subprocess.run(
        command, shell=True, cwd=hub.home, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["ls"]])
def test_light_commands_load_nothing_heavy(
    hub: Hub, versions: list[Version], arguments: list[str]
) -> None:
    """What makes them fast: none of the heavy libraries is imported."""
    script = (
        "import sys; from hub.cli.main import cli; "
        f"cli.main({arguments!r}, standalone_mode=False); "
        "heavy = {'torch', 'transformers', 'fastapi', 'pandas', 'pydantic', 'httpx', 'numpy'}; "
        "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=hub.home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_broken_registry_is_said_in_one_line(tmp_path: Path) -> None:
    """A file that is no database is named, and never overwritten."""
    content = b"not a database, but long enough to be looked at" * 9
    (tmp_path / "registry.db").write_bytes(content)
    result = Hub(tmp_path)("ls")
    assert result.status == 1
    assert (tmp_path / "registry.db").read_bytes() == content
    assert "not a readable SQLite database" in result.stderr
    assert "Traceback" not in result.stderr
