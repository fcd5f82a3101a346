"""Before anything is loaded: whether a training will fit, how long it will take, what to do if not.

The memory is estimated (`train.planning.estimate`) and compared with what the device has free
(`train.planning.room`), so a live engine on the same GPU counts. The time comes from what earlier
runs on this base and device took, where there are any, or from a step that was timed (`--dry-run`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hub.errors import InvalidConfig
from hub.records import Base, Run
from train.config import Settings
from train.linting.findings import TokenStatistics
from train.planning.estimate import Anatomy, Memory, estimate
from train.planning.room import Room
from train.presets import PREFERENCES

_GB = 1e9
_ENGINES_SHARE = 0.02  # of a GPU, in others' hands, that is worth a word
_STEP = 0.05  # engines are told their share in such steps


@dataclass(frozen=True)
class Preflight:
    """`tokens` are read in training, repeats included; `seconds` None where nothing tells them."""

    settings: Settings
    anatomy: Anatomy
    longest: int
    bf16: bool
    memory: Memory
    room: Room
    steps: int
    tokens: int
    seconds: float | None = None
    timed_by: str | None = None

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.room.free

    def timed(self, tokens_per_second: float, by: str) -> "Preflight":
        return replace(self, seconds=self.tokens / tokens_per_second, timed_by=by)

    def lines(self) -> list[str]:
        """The estimate for people."""
        parts = ", ".join(f"{name} {gb(size)}" for name, size in self.memory.to_json().items())
        lines = [
            f"memory: about {gb(self.memory.total)} ({parts});"
            f" {gb(self.room.free)} free on {self.room.name}"
        ]
        if self._shared:
            both = "both fit" if self.fits else "both don't fit"
            lines.append(
                f"another program, such as a live engine, holds {gb(self.room.others)} of the"
                f" GPU's {gb(self.room.total)}: {both}"
            )
        return lines

    def require(self) -> None:
        """Raises InvalidConfig when it does not fit, with what would."""
        if self.fits:
            return
        beside = ""
        if self._shared:
            beside = f" beside another program's {gb(self.room.others)}"
        raise InvalidConfig(
            [
                f"memory: the training takes about {gb(self.memory.total)}, and"
                f" {gb(self.room.free)} are free on {self.room.name}{beside}",
                *self.ways(),
                "or use --force, if you know better than an estimate",
            ]
        )

    def ways(self) -> list[str]:
        """What would make it fit, each with what it would take."""
        ways = []
        for change, words in self._changes():
            total = self._with(change).total
            if total <= self.room.free:
                ways.append(f"{words} would take about {gb(total)}")
                break
        if self._shared and (share := self._engines_share()) is not None:
            ways.append(
                "a live engine leaves room if it is started with `hub serve --engine-args"
                f" '--gpu-memory-utilization {share:.2f}'`"
            )
        return ways or ["no setting makes it fit: use a smaller base, or a larger machine"]

    def to_json(self) -> dict[str, Any]:
        return {
            "memory": {**self.memory.to_json(), "total": self.memory.total},
            "free": self.room.free,
            "device": self.room.device,
            "held_by_others": self.room.others,
            "fits": self.fits,
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "timed_by": self.timed_by,
        }

    @property
    def _shared(self) -> bool:
        return self.room.others > _ENGINES_SHARE * self.room.total

    def _with(self, change: dict[str, Any]) -> Memory:
        return estimate(
            self.anatomy,
            replace(self.settings, **change),
            longest=self.longest,
            bf16=self.bf16,
            gpu=self.room.device == "cuda",
        )

    def _changes(self) -> Iterable[tuple[dict[str, Any], str]]:
        """Settings that take less, from the mildest on."""
        now = self.settings
        quantized: list[dict[str, Any]] = [{}]
        if now.quantize is None and now.method != "full":
            quantized.append({"quantize": "nf4"})
        least = 2 if now.method == "kto" else 1
        for more in quantized:
            words = "quantize: nf4 with " if more else ""
            size = now.batch_size
            while size >= least:
                grown = now.gradient_accumulation * math.ceil(now.batch_size / size)
                if size < now.batch_size or more:
                    said = f"{words}batch_size: {size} and gradient_accumulation: {grown}"
                    if size == now.batch_size:
                        said = "quantize: nf4"
                    yield {**more, "batch_size": size, "gradient_accumulation": grown}, said
                size //= 2
        if now.method == "full":
            yield {"method": "sft"}, "method: sft, which trains an adapter alone,"

    def _engines_share(self) -> float | None:
        """The largest share of the GPU that an engine may take beside this training."""
        share = math.floor((self.room.total - self.memory.total) / self.room.total / _STEP) * _STEP
        return share if share >= 2 * _STEP else None


def preflight(
    base: Base,
    settings: Settings,
    *,
    rows: int,
    tokens: TokenStatistics,
    room: Room,
    bf16: bool,
    runs: Iterable[Run] = (),
) -> Preflight:
    """Estimate a training of `rows` rows, `tokens` being theirs; `runs` are earlier ones.

    Raises:
        BaseError: when the base's configuration can't be read.
    """
    anatomy = Anatomy.of(base)
    memory = estimate(
        anatomy, settings, longest=tokens.longest, bf16=bf16, gpu=room.device == "cuda"
    )
    trained = rows * (1 - settings.validation)
    a_step = settings.batch_size * settings.gradient_accumulation * settings.processes
    read = round(tokens.total * (1 - settings.validation) * settings.epochs)
    made = Preflight(
        settings,
        anatomy,
        tokens.longest,
        bf16,
        memory,
        room,
        steps=math.ceil(trained / a_step) * settings.epochs,
        tokens=read * (2 if settings.method == "dpo" else 1),
    )
    for run in runs:
        if (pace := _pace(run, base, settings)) is not None:
            return made.timed(pace, f"the run {run.id}")
    return made


def _pace(run: Run, base: Base, settings: Settings) -> float | None:
    """Tokens a second of a finished run like this one, its loading and evaluations included."""
    metrics = (run.lineage or {}).get("metrics") or {}
    alike = (
        run.status == "finished"
        and run.base == base.name
        and (run.method in PREFERENCES) == (settings.method in PREFERENCES)
        and (run.method == "full") == (settings.method == "full")
        and run.config.get("quantize") == settings.quantize
        and run.config.get("processes", 1) == settings.processes
    )
    if not alike or not metrics.get("tokens") or not metrics.get("seconds"):
        return None
    return float(metrics["tokens"] / metrics["seconds"])


def gb(size: int) -> str:
    """Gigabytes of 10^9 bytes, and what is less in megabytes."""
    return f"{size / _GB:,.1f} GB" if size >= _GB else f"{size / 1e6:,.0f} MB"
