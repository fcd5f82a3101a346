"""`make bench BENCH=overhead`: what the gateway costs, beside the very same vLLM asked directly.

One engine, warmed; each round asks it directly and through the gateway in alternating order, with
logging on and an API key wanted (the engine gets the same header). Latency is of one client;
throughput of eight. Then a gateway in front of an engine that answers everything after 5 ms, to see
how much it could carry if the engine were no limit. The bars are those of a gateway that nobody
notices.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import httpx

from benchmarks.load import Rate, drive
from benchmarks.prepared import api_key, gateway, mock_engine, prepared_home, raw_vllm
from benchmarks.report import at_least, at_most, write
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store

ROUNDS = 300
BATCHES = 12
BATCH = 64
CLIENTS = 8
WARMUP = 20
MOCK_CLIENTS = 64
MOCK_ANSWER_S = 0.005
MOCK_RUNS = 5
MOCK_RUN_S = 4.0


def main() -> int:
    home = prepared_home()
    with Registry.open(home) as registry:
        version = registry.resolve(AdapterRef("support"))
    with (
        api_key() as key,
        raw_vllm() as raw,
        gateway(raw) as served,
        httpx.Client(timeout=120, headers={"authorization": f"Bearer {key}"}) as client,
    ):
        require_refusal(served)
        # Each way has its own name for the same weights; both are loaded before anything counts.
        load = {"lora_name": "direct", "lora_path": str(Store(home).folder(version))}
        client.post(f"{raw}/v1/load_lora_adapter", json=load).raise_for_status()
        ways = {"raw": (raw, "direct"), "gateway": (served, "support")}
        for _ in range(WARMUP):
            for way in ways.values():
                first_token(client, *way)
        latency: dict[str, list[float]] = {name: [] for name in ways}
        ttft: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for name in alternated(ways, number):
                latency[name].append(whole(client, *ways[name]))
                ttft[name].append(first_token(client, *ways[name]))
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(BATCHES):
            for name in alternated(ways, number):
                rates[name].append(throughput(*ways[name], key))
    carried = mock_rates()
    added = [1e3 * (g - r) for g, r in zip(latency["gateway"], latency["raw"], strict=True)]
    added_ttft = [1e3 * (g - r) for g, r in zip(ttft["gateway"], ttft["raw"], strict=True)]
    ratios = [g / r for g, r in zip(rates["gateway"], rates["raw"], strict=True)]
    return write(
        "overhead",
        [
            at_most("added latency, median of pairs", median(added), "ms", 2),
            at_most("added time to first token, median of pairs", median(added_ttft), "ms", 3),
            at_least("throughput, gateway / raw, median of pairs", median(ratios), "x", 0.97),
            at_least(
                f"through a mock engine, {MOCK_CLIENTS} clients, median of runs",
                median(run.requests_per_s for run in carried),
                "req/s",
                1500,
            ),
            at_most("failures through the mock engine", sum(run.failed for run in carried), "", 0),
        ],
        [
            {
                "way": name,
                "latency_ms": 1e3 * median(latency[name]),
                "ttft_ms": 1e3 * median(ttft[name]),
                "requests_per_s": median(rates[name]),
            }
            for name in ways
        ]
        + [
            {"way": "gateway, mock engine", "requests_per_s": run.requests_per_s} for run in carried
        ],
    )


def mock_rates() -> list[Rate]:
    """Every request is logged here too, and has its key."""
    path, asked = "/v1/chat/completions", body("support")
    with api_key() as key, mock_engine(MOCK_ANSWER_S) as engine, gateway(engine) as served:
        require_refusal(served)
        drive(served, path, asked, clients=MOCK_CLIENTS, seconds=1, key=key)
        return [
            drive(served, path, asked, clients=MOCK_CLIENTS, seconds=MOCK_RUN_S, key=key)
            for _ in range(MOCK_RUNS)
        ]


def require_refusal(url: str) -> None:
    """Raises SystemExit when the gateway answers without a key: authentication would be off."""
    status = httpx.post(f"{url}/v1/chat/completions", json=body("support"), timeout=120).status_code
    if status != 401:
        raise SystemExit(f"{url} answered {status} to a request without a key")


def alternated(ways: dict[str, tuple[str, str]], number: int) -> list[str]:
    names = list(ways)
    return names if number % 2 == 0 else names[::-1]


def body(model: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Someone used my card at a shop I do not know."}]
    return {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0, **more}


def whole(client: httpx.Client, url: str, model: str) -> float:
    started = time.perf_counter()
    client.post(f"{url}/v1/chat/completions", json=body(model)).raise_for_status()
    return time.perf_counter() - started


def first_token(client: httpx.Client, url: str, model: str) -> float:
    """Seconds to the first chunk with text; the rest of the stream is read before it returns."""
    started, first = time.perf_counter(), 0.0
    request = body(model, stream=True)
    with client.stream("POST", f"{url}/v1/chat/completions", json=request) as response:
        for line in response.iter_lines():
            if not first and line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                first = time.perf_counter() - started if delta.get("content") else 0.0
    return first


def throughput(url: str, model: str, key: str) -> float:
    """Requests a second of CLIENTS clients."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(timeout=120, headers=headers) as client, ThreadPoolExecutor(CLIENTS) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: whole(client, url, model), range(BATCH)))
        return BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
