"""A user's mistake gets one clear message, the right exit code, and leaves nothing behind."""

import socket
from pathlib import Path

import pytest

from hub.home import Home
from hub.publish import publish
from hub.records import Base
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub, Result
from tests.conftest import acts, adapter_tensors, write_adapter


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    folder = tmp_path / "home"
    folder.mkdir(exist_ok=True)
    return Hub(folder)


def files(hub: Hub) -> set[str]:
    return {str(path.relative_to(hub.home)) for path in hub.home.rglob("*") if path.is_file()}


def assert_clear(result: Result, status: int, *words: str) -> None:
    """One `error:` line with these words, no traceback, nothing on stdout."""
    assert result.status == status, result.stderr
    assert "Traceback" not in result.stderr
    assert "bug in Loom" not in result.stderr
    assert result.stderr.count("error: ") == 1
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_no_hub_here(hub: Hub) -> None:
    """Outside a hub every command says how to make one, and makes nothing itself."""
    for command in (["ls"], ["show", "support"], ["serve"], ["publish", "a"], ["export", "x"]):
        assert_clear(hub(*command), 1, "no hub here", "hub init")
    assert files(hub) == set()


def test_a_rank_for_an_engine_elsewhere_is_refused(hub: Hub) -> None:
    """An option that nothing reads would look as if it did something."""
    hub.ok("init")
    result = hub("serve", "--engine", "http://127.0.0.1:9", "--max-lora-rank", "16")
    assert_clear(result, 2, "--max-lora-rank", "--engine names others")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        ("", ["empty"]),
        ('{"messages": [{"role": "user", "content": "q"}]}\n', ["1", "answer"]),
        ('{"messages": [{"role": "user", "content"\n', ["1", "JSON"]),
    ],
)
def test_unusable_data_is_refused_by_lint_and_train(
    hub: Hub, base: Base, home: Home, content: str | None, words: list[str]
) -> None:
    """A missing, empty or broken file is named with its row, and no run is started."""
    assert home.root == hub.home
    if content is not None:
        (hub.home / "rows.jsonl").write_text(content)
    assert hub("runs", "ls").stdout == ""
    for command in (["data", "lint"], ["train", "support", "--data"]):
        before = files(hub)
        result = hub(*command, "rows.jsonl")
        assert result.status != 0
        assert "Traceback" not in result.stderr
        for word in ["rows.jsonl", *words]:
            assert word in result.stderr
        assert files(hub) == before
    assert hub("runs", "ls").stdout == ""


def test_an_unknown_base(hub: Hub) -> None:
    """A base that is no folder and no model's name is refused with what exists."""
    hub.ok("init")
    assert_clear(hub("base", "add", "nowhere"), 1, "nowhere", "OWNER/NAME")
    assert_clear(hub("serve", "--base", "nowhere"), 1, "no base 'nowhere'", "hub base add")
    (hub.home / "empty").mkdir()
    assert_clear(hub("base", "add", "empty"), 1, "config.json")


def test_an_unknown_adapter_says_what_exists(
    hub: Hub, registry: Registry, store: Store, base: Base, home: Home, tmp_path: Path
) -> None:
    """`hub show suport` points at support."""
    for seed in (1, 2):
        publish(
            registry, store, "support", write_adapter(tmp_path / str(seed), adapter_tensors(seed)),
            base, measure_effect=acts, lineage={},
        )  # fmt: skip
    assert home.root == hub.home
    assert_clear(hub("show", "suport"), 1, "no adapter 'suport'", "support", "hub ls")
    assert_clear(hub("promote", "support@9"), 1, "no version 'support@9'", "support@1")
    assert_clear(hub("show", "../etc"), 2, "can't name an adapter")
    assert_clear(hub("promote", "support@2"), 4, "not been evaluated", "--force")
    assert_clear(hub("promote", "support@2", "--force"), 2, "--why")
    assert_clear(hub("rollback", "support"), 1, "no earlier version")


def test_a_port_in_use(hub: Hub, base: Base, home: Home) -> None:
    """`hub serve` names the port and what to do, before it starts an engine."""
    assert home.root == hub.home
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_clear(hub("serve", "--port", port), 1, str(port), "--port")


def test_an_address_that_others_reach(hub: Hub, base: Base) -> None:
    """Without keys nothing but loopback is served."""
    assert_clear(hub("serve", "--host", "0.0.0.0"), 1, "0.0.0.0", "hub keys create")


def test_no_server(hub: Hub, base: Base) -> None:
    """A command that needs a running server says how to start it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = hub("chat", "base", "hello", "--server", f"http://127.0.0.1:{port}")
    assert_clear(result, 1, f"127.0.0.1:{port}", "hub serve")


def test_a_home_that_can_t_be_made(hub: Hub) -> None:
    """A file where the hub's folder should be is said in one line."""
    (hub.home / "file").write_text("")
    inside = Hub(hub.home, home_variable=str(hub.home / "file" / "hub"))
    assert_clear(inside("init"), 1, "no hub can be made here", "HUB_HOME")


def test_wrong_usage_is_exit_code_2(hub: Hub) -> None:
    """Typos in commands and options, as click words them."""
    for command in (["shwo"], ["ls", "--nonsense"], ["train"], ["feedback"]):
        assert hub(*command).status == 2
