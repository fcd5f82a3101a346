"""What /metrics tells is what happened, in few series, and the dashboard asks only for that."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import TOP_ADAPTERS, UNKNOWN, Metrics
from serve.topnames import OTHER, TopNames
from tests.serve.conftest import Gateway, Publish, until
from tests.serve.engine_double import EngineDouble
from tests.serve.test_journal import ENTRY

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
DASHBOARDS = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards"


def _read(text: str) -> Series:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def _scrape(gateway: Gateway) -> Series:
    answer = await gateway.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return _read(answer.text)


def _value(series: Series, name: str, **labels: str) -> float:
    return series.get((name, tuple(sorted(labels.items()))), 0.0)


async def test_requests_are_counted_as_they_ended(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """By endpoint, adapter and status; latency, first token and tokens of what was answered."""
    published("support")
    await gateway.chat("support"), await gateway.stream("support@1")
    await gateway.stream("base", "/v1/completions")
    await gateway.chat("nope")
    double.faults = ["refuse"]
    await gateway.chat("support")
    double.faults = ["cut"]
    await gateway.stream("support")
    double.faults = ["unavailable"]
    await gateway.chat("base")
    series = await _scrape(gateway)
    for endpoint, adapter, status, count in (
        ("chat", "support", "200", 3),
        ("chat", "support", "400", 1),
        ("completions", "base", "200", 1),
        ("chat", "base", "200", 1),
        ("chat", "unknown", "404", 1),
    ):
        labels = {"endpoint": endpoint, "adapter": adapter, "status": status}
        assert _value(series, "hub_requests_total", **labels) == count, labels
    assert _value(series, "hub_streams_interrupted_total", adapter="support") == 1
    assert _value(series, "hub_request_seconds_count", adapter="support") == 2
    assert _value(series, "hub_first_token_seconds_count", adapter="support") == 2
    assert _value(series, "hub_tokens_total", adapter="support", kind="prompt") == 6
    assert _value(series, "hub_tokens_total", adapter="support", kind="completion") == 14
    assert _value(series, "hub_engine_retries_total") == 1
    assert _value(series, "hub_queue_seconds_count") == 0
    assert _value(series, "hub_log_records_total") == 6


async def test_a_client_that_left_is_counted(gateway: Gateway, double: EngineDouble) -> None:
    """Under 499: it is neither a success nor the gateway's failure."""
    double.hold.clear()
    asking = asyncio.create_task(gateway.chat("base"))
    await until(lambda: double.asked)
    asking.cancel()
    await gateway.logged_soon()
    labels = {"endpoint": "chat", "adapter": "base", "status": "499"}
    assert _value(await _scrape(gateway), "hub_requests_total", **labels) == 1


async def test_state_is_read_when_asked(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Residents, leases, loads, evictions, the engine's lives, who runs and waits."""
    for name in ("one", "two", "three", "four"):
        published(name)
        await gateway.chat(name)
    double.hold.clear()
    asking = asyncio.create_task(gateway.chat("four"))
    await until(lambda: len(double.asked) == 5)
    series = await _scrape(gateway)
    engine = {"engine": double.url.removeprefix("http://")}
    assert _value(series, "hub_resident_adapters", state="loaded", **engine) == 3
    assert _value(series, "hub_resident_capacity", **engine) == 3
    assert _value(series, "hub_adapter_loads_total", **engine) == 4
    assert _value(series, "hub_adapter_evictions_total", **engine) == 1
    assert _value(series, "hub_leases", **engine) == _value(series, "hub_requests_running") == 1
    assert _value(series, "hub_requests_waiting") == _value(series, "hub_log_backlog") == 0
    assert _value(series, "hub_engine_up", **engine) == 1
    assert _value(series, "hub_engine_lives_total", **engine) == 1
    assert _value(series, "hub_engine_requests", **engine) == 1
    assert _value(series, "hub_engine_circuit_open", **engine) == 0
    double.hold.set()
    await asking
    assert _value(await _scrape(gateway), "hub_leases", **engine) == 0


async def test_a_comparison_leaves_no_trace_by_adapter(
    gateway: Gateway, published: Publish
) -> None:
    """Its tokens, counted by adapter, would tell which side of a blind pair is which."""
    published("support")
    asked = {"messages": [{"role": "user", "content": "Hi"}], "arms": ["base", "support"]}
    made = (await gateway.http.post("/hub/comparisons", json=asked)).json()["id"]
    await gateway.http.get(f"/hub/comparisons/{made}/stream")
    assert 'adapter="' not in (await gateway.http.get("/metrics")).text


async def test_openmetrics_is_spoken_to_who_asks_for_it(gateway: Gateway) -> None:
    """As Prometheus does."""
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = await gateway.http.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# -- few series --------------------------------------------------------------------------------


def test_a_thousand_adapters_make_no_thousand_series() -> None:
    """One that is busy gets its label, though fifty others had them all before it came."""
    metrics = Metrics()
    for number in range(TOP_ADAPTERS):
        metrics.ended(f"adapter-{number}", 200, ENTRY)
    for number in range(20_000):
        metrics.ended(f"adapter-{number % 1000}", 200, ENTRY)
        if number % 10 == 0:
            metrics.ended("hot", 200, ENTRY)
    series = _read(metrics.text("")[0].decode())
    adapters = {dict(labels)["adapter"] for name, labels in series if name == "hub_requests_total"}
    assert len(adapters) == TOP_ADAPTERS + 1
    assert {"hot", OTHER} <= adapters
    assert len(series) < 2000


def test_an_adapter_called_like_a_label_of_ours_has_none_of_its_own() -> None:
    """What was refused stays apart from an adapter `unknown`, and is never forgotten with it."""
    metrics = Metrics()
    metrics.refused("chat", 404)
    for name in (UNKNOWN, OTHER):
        metrics.ended(name, 200, ENTRY)
    series = _read(metrics.text("")[0].decode())
    labels = {"endpoint": ENTRY.endpoint, "status": "200"}
    assert _value(series, "hub_requests_total", adapter=OTHER, **labels) == 2
    assert _value(series, "hub_requests_total", adapter=UNKNOWN, **labels) == 0
    assert _value(series, "hub_requests_total", endpoint="chat", adapter=UNKNOWN, status="404") == 1


def test_the_loud_displace_the_quiet_and_not_their_equals() -> None:
    """A label changes hands when another is heard twice as often, so equals do not take turns."""
    dropped: list[str] = []
    top = TopNames(2, dropped.append)
    assert [top.label(name) for name in ("a", "b", "c")] == ["a", "b", OTHER]
    for _ in range(2000):
        assert top.label("a") == "a"
        assert top.label("b") == "b"
        assert top.label("c") == OTHER
    assert dropped == []
    for _ in range(4000):
        top.label("a"), top.label("c")
    assert dropped == ["b"]
    assert top.label("c") == "c"
    assert top.label("b") == OTHER


def test_names_that_are_heard_once_are_forgotten() -> None:
    """Memory is bounded by what was heard lately, however many names there are in all."""
    top = TopNames(5, lambda name: None)
    for number in range(100_000):
        top.label(f"name {number}")
    assert len(top._heard) <= 2000


# -- the dashboard -----------------------------------------------------------------------------


def _expressions() -> list[str]:
    return [
        target["expr"]
        for file in DASHBOARDS.glob("*.json")
        for panel in json.loads(file.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


async def test_every_query_of_the_dashboard_is_about_a_metric_that_exists(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """After a little traffic each name in it is a series of /metrics, with the labels it uses."""
    published("support")
    await gateway.chat("support")
    double.faults = ["cut"]
    await gateway.stream("support")
    series = await _scrape(gateway)
    known = {name for name, _ in series}
    labels = {name: {key for key, _ in pairs} for name, pairs in series}
    expressions = _expressions()
    assert len(expressions) >= 15
    for expression in expressions:
        names = re.findall(r"\b(?:hub|process)_\w+", expression)
        assert names, expression
        assert set(names) <= known, expression
        used = set(re.findall(r"by \(([^)]*)\)", expression))
        for key in {key.strip() for group in used for key in group.split(",")}:
            assert any(key in labels[name] for name in names), expression


async def test_the_dashboard_leaves_no_metric_out(gateway: Gateway) -> None:
    """Every metric of ours has a panel."""
    text = (await gateway.http.get("/metrics")).text
    families = set(re.findall(r"^# TYPE (hub_\w+)", text, re.MULTILINE))
    asked = " ".join(_expressions())
    assert {name for name in families if name not in asked} == set()


@pytest.mark.parametrize("file", sorted(DASHBOARDS.glob("*.json")), ids=lambda file: file.name)
def test_a_dashboard_is_one_that_grafana_can_be_given(file: Path) -> None:
    """Panels have ids of their own, places that do not overlap, and the data source variable."""
    board = json.loads(file.read_text())
    assert board["uid"]
    assert "id" not in board or board["id"] is None
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${source}"
