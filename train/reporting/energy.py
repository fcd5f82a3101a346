"""The energy that a training took, where the machine measures it: never worked out from a TDP.

On a GPU it is the counter of NVIDIA's driver (NVML's total energy consumption, which GPUs since
Volta have), read through `pynvml` where that is installed; on a CPU the counters of its packages
(RAPL) in /sys/class/powercap, which most systems let only root read. Both count all that ran on
that device in the time, not this training alone, and neither counts the rest of the machine.

A counter that wraps around is read often enough for that not to be missed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

POWERCAP = Path("/sys/class/powercap")
# A package at 500 W goes once around RAPL's usual 262 kJ in about nine minutes.
_EVERY_S = 60.0


@dataclass(frozen=True)
class Counter:
    """`read()` gives joules since some moment; it starts again at `wraps`, if that is not None."""

    name: str
    read: Callable[[], float]
    wraps: float | None = None


class EnergyMeter:
    """Adds up some counters while it is entered; `facts()` is what they have counted until then."""

    def __init__(self, counters: list[Counter] | str, *, resumed: bool = False) -> None:
        self._resumed = resumed
        self._unknown = counters if isinstance(counters, str) else None
        self._counters = [] if isinstance(counters, str) else counters
        self._joules = [0.0] * len(self._counters)
        self._last: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._guard = threading.Lock()

    @classmethod
    def of_device(
        cls, device: torch.device, *, resumed: bool = False, powercap: Path = POWERCAP
    ) -> Self:
        """The meter of what trains on this device; one without counters says why it has none.

        `resumed` is passed on, because what an earlier process took is not in it.
        """
        counters = _gpu_counters() if device.type == "cuda" else _cpu_counters(powercap)
        return cls(counters, resumed=resumed)

    def __enter__(self) -> Self:
        try:
            self._last = [counter.read() for counter in self._counters]
        except Exception as error:  # a driver's own kind of failure; a figure less, no run less
            self._unknown, self._counters = f"its counter can't be read: {error}", []
        if self._counters:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            self._add()

    def facts(self) -> dict[str, Any]:
        """Joules and what counted them; `joules` None and the reason where nothing did."""
        if self._unknown is not None:
            return {"joules": None, "reason": self._unknown}
        names = ", ".join(counter.name for counter in self._counters)
        joules = round(sum(self._joules), 1)
        return {"joules": joules, "counter": names, "resumed": self._resumed}

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._add()

    def _add(self) -> None:
        with self._guard:
            try:
                now = [counter.read() for counter in self._counters]
            except Exception as error:  # as above
                self._unknown = f"its counter stopped: {error}"
                return
            for at, (counter, joules) in enumerate(zip(self._counters, now, strict=True)):
                spent = joules - self._last[at]
                if spent < 0 and counter.wraps is not None:
                    spent += counter.wraps
                self._joules[at] += spent
            self._last = now


def _cpu_counters(powercap: Path) -> list[Counter] | str:
    """One a package: `intel-rapl:0`, which AMD's processors have under the same name."""
    zones = sorted(zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1)
    counters = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            wraps = int((zone / "max_energy_range_uj").read_text()) / 1e6
            file = zone / "energy_uj"
            file.read_text()
        except OSError as error:
            return f"{zone / 'energy_uj'} can't be read: {error.strerror}"
        counters.append(Counter(f"RAPL {name}", _microjoules(file), wraps))
    return counters or "this machine shows no energy counter (RAPL)"


def _microjoules(file: Path) -> Callable[[], float]:
    return lambda: int(file.read_text()) / 1e6


def _gpu_counters() -> list[Counter] | str:
    if find_spec("pynvml") is None:
        return "nvidia-ml-py is not installed"
    import pynvml  # type: ignore[import-not-found]

    counters = []
    try:
        pynvml.nvmlInit()
        for at in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(at)
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{facts.uuid}")
            counters.append(Counter(f"NVML {facts.name}", _millijoules(pynvml, handle)))
            counters[-1].read()
    except pynvml.NVMLError as error:
        return f"the driver does not count it: {error}"
    return counters


def _millijoules(library: Any, handle: Any) -> Callable[[], float]:
    return lambda: float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
