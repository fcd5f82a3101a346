"""What `/metrics` tells: counted as requests end, and read from the gateway's parts when asked.

Adapters are labels for the busiest few dozen only (`serve.topnames`), by name and not by version;
when one loses its label, its series end. Of what can't be resolved nothing is kept but the count.
Latencies run from the arrival of a request's body to the commit of its interaction, as in the log.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hub.feedback.interactions import Interaction
from serve.journal import Journal
from serve.placement.fleet import Fleet
from serve.placement.residency import Residency
from serve.placement.slots import SlotState
from serve.placement.turns import Turns
from serve.topnames import OTHER, TopNames

TOP_ADAPTERS = 50
UNKNOWN = "unknown"
# nginx's number for it: no status was sent.
CLIENT_GONE = 499

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)


class Metrics:
    def __init__(self) -> None:
        # Else every counter has a second series with the time of its making, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._top = TopNames(TOP_ADAPTERS, self._forget)
        self._requests = Counter(
            "hub_requests",
            "Requests to /v1 that ended, by HTTP status (499: the client went away).",
            ("endpoint", "adapter", "status"),
            registry=self.registry,
        )
        self._interrupted = Counter(
            "hub_streams_interrupted",
            "Streams that ended with the error event engine_interrupted.",
            ("adapter",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "hub_request_seconds",
            "From a request's arrival to its commit in the log, of whole answers.",
            ("adapter",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "hub_first_token_seconds",
            "From a stream's arrival to its first event.",
            ("adapter",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "hub_tokens",
            "Tokens as the engine counts them; kind is prompt or completion.",
            ("adapter", "kind"),
            registry=self.registry,
        )
        self.queue_wait = self._wait(
            "hub_queue_seconds", "Waiting for a turn at the engine, of those that had to."
        )
        self.adapter_wait = self._wait(
            "hub_adapter_wait_seconds", "Waiting for the adapter to be in the engine."
        )
        self._turned_away = Counter(
            "hub_requests_turned_away",
            "Requests without a valid API key (reason: key), or over a key's rate (rate).",
            ("reason",),
            registry=self.registry,
        )
        for reason in ("key", "rate"):  # a series that is there from the start has a rate
            self._turned_away.labels(reason)
        self.retries = Counter(
            "hub_engine_retries",
            "Requests sent to the engine again before a byte had reached the client.",
            registry=self.registry,
        )

    def watch(self, fleet: Fleet, turns: Turns, journal: Journal) -> None:
        """Read these at every scrape."""
        self.registry.register(_Parts(fleet, turns, journal))

    def refused(self, endpoint: str, status: int) -> None:
        """A request ended before it was known what should answer it."""
        self._requests.labels(endpoint, UNKNOWN, str(status)).inc()

    def turned_away(self, reason: str) -> None:
        """A request was refused before anything of it was read."""
        self._turned_away.labels(reason).inc()

    def ended(self, adapter: str, status: int, interaction: Interaction) -> None:
        # An adapter may be called like a label of ours: then it has none of its own.
        label = OTHER if adapter in (OTHER, UNKNOWN) else self._top.label(adapter)
        self._requests.labels(interaction.endpoint, label, str(status)).inc()
        if interaction.ttft_ms is not None:
            self._first_token.labels(label).observe(interaction.ttft_ms / 1000)
        if interaction.status == "complete":
            self._seconds.labels(label).observe(interaction.latency_ms / 1000)
        elif interaction.status == "incomplete" and status == HTTPStatus.OK:
            self._interrupted.labels(label).inc()
        for kind, count in (
            ("prompt", interaction.prompt_tokens),
            ("completion", interaction.completion_tokens),
        ):
            if count:
                self._tokens.labels(label, kind).inc(count)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the format that a scraper asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _wait(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, buckets=_WAITS, registry=self.registry)

    def _forget(self, adapter: str) -> None:
        for metric in (
            self._requests,
            self._interrupted,
            self._seconds,
            self._first_token,
            self._tokens,
        ):
            metric.remove_by_labels({"adapter": adapter})


class _Parts(Collector):
    def __init__(self, fleet: Fleet, turns: Turns, journal: Journal) -> None:
        self._fleet = fleet
        self._turns = turns
        self._journal = journal

    def collect(self) -> Iterable[Metric]:
        yield from self._engines_now()
        yield from self._residency_now()
        turns, journal = self._turns, self._journal
        yield _gauge("hub_requests_running", "Requests at the engines.", turns.running)
        yield _gauge("hub_requests_waiting", "Requests waiting for a turn.", turns.waiting)
        yield _count("hub_requests_overload", "Requests refused with 429.", turns.refused)
        yield _gauge("hub_log_backlog", "Interactions waiting to be committed.", journal.backlog)
        yield _count("hub_log_records", "Interactions committed.", journal.written)
        yield _count("hub_log_failures", "Interactions that could not be.", journal.failures)

    def _engines_now(self) -> Iterable[Metric]:
        up = _by_engine(GaugeMetricFamily, "hub_engine_up", "Whether it answers.")
        lives = _by_engine(CounterMetricFamily, "hub_engine_lives", "How often it came up.")
        running = _by_engine(GaugeMetricFamily, "hub_engine_requests", "Requests that are there.")
        left_out = _by_engine(
            GaugeMetricFamily, "hub_engine_circuit_open", "Whether it is left out for failing."
        )
        openings = _by_engine(
            CounterMetricFamily, "hub_engine_circuit_openings", "How often its circuit was broken."
        )
        for member in self._fleet.members:
            label = (member.engine.name,)
            up.add_metric(label, float(member.is_up))
            lives.add_metric(label, member.engine.generation)
            running.add_metric(label, member.running)
            left_out.add_metric(label, float(not member.breaker.is_closed))
            openings.add_metric(label, member.breaker.openings)
        return up, lives, running, left_out, openings

    def _residency_now(self) -> Iterable[Metric]:
        states = GaugeMetricFamily(
            "hub_resident_adapters",
            "Adapter versions by what is done with them.",
            labels=("engine", "state"),
        )
        capacity = _by_engine(GaugeMetricFamily, "hub_resident_capacity", "How many may be loaded.")
        leases = _by_engine(
            GaugeMetricFamily, "hub_leases", "Requests that hold an adapter in the engine."
        )
        in_batch = _by_engine(
            GaugeMetricFamily, "hub_batch_adapters", "Adapter versions that requests run with."
        )
        batch = _by_engine(
            GaugeMetricFamily, "hub_batch_capacity", "How many may run at once (--max-loras)."
        )
        waiting = _by_engine(
            GaugeMetricFamily,
            "hub_adapters_waiting",
            "Adapter versions that wait to be loaded or run, for want of room.",
        )
        loads = _by_engine(CounterMetricFamily, "hub_adapter_loads", "Loads that succeeded.")
        evictions = _by_engine(
            CounterMetricFamily, "hub_adapter_evictions", "Adapters unloaded for others."
        )
        for member in self._fleet.members:
            residency = member.adapters
            if not isinstance(residency, Residency):
                continue  # an engine that loads lazily does not tell
            name = member.engine.name
            residents = residency.residents()
            for state in SlotState:
                count = sum(resident.state == state.value for resident in residents)
                states.add_metric((name, state.value), count)
            capacity.add_metric((name,), residency.capacity)
            leases.add_metric((name,), sum(resident.leases for resident in residents))
            in_batch.add_metric((name,), residency.batch.used)
            batch.add_metric((name,), residency.batch.limit)
            waiting.add_metric((name,), residency.waiting + residency.batch.waiting)
            loads.add_metric((name,), residency.loads)
            evictions.add_metric((name,), residency.evictions)
        return states, capacity, leases, in_batch, batch, waiting, loads, evictions


_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


def _by_engine(kind: "type[_Family]", name: str, what: str) -> _Family:
    return kind(name, what, labels=("engine",))


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _count(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=value)
