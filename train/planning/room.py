"""How much memory the device that will train has, and how much of it is free. Bytes throughout.

On a CPU that is what the kernel calls available, or what the container's limit (cgroup 2) leaves,
whichever is less; what this process holds already counts as free, being part of the estimate. On a
GPU it is what the driver says of the device, other programs' share taken off.
"""

import re
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """`device` is cpu or cuda; `others` is what other programs hold of a GPU, 0 on a CPU."""

    device: str
    free: int
    total: int
    others: int = 0

    @property
    def name(self) -> str:
        return "the GPU" if self.device == "cuda" else "this machine"


def room() -> Room:
    """Of the device that would train here and now."""
    import torch

    from train.trainers.loading import device

    if device().type == "cuda":
        own = int(torch.cuda.memory_reserved())
        free, total = (int(size) for size in torch.cuda.mem_get_info())
        return Room("cuda", free + own, total, others=max(0, total - free - own))
    return _cpu_room()


def _cpu_room() -> Room:
    import psutil  # type: ignore[import-untyped]  # comes with accelerate

    memory = psutil.virtual_memory()
    free, total = int(memory.available), int(memory.total)
    if (limited := container_room()) is not None:
        free, total = min(free, limited[0]), min(total, limited[1])
    return Room("cpu", free + int(psutil.Process().memory_info().rss), total)


def container_room(
    root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")
) -> tuple[int, int] | None:
    """(free, limit) of the tightest limit on this process's control groups; None without one."""
    try:
        found = re.search(r"^0::/(.*)$", own.read_text(), re.MULTILINE)
    except OSError:
        return None
    place = root / (found[1] if found else "")
    limits = []
    for folder in (place, *place.parents):
        if limit := _limit(folder):
            limits.append(limit)
        if folder == root:
            break
    return min(limits, default=None)


def _limit(folder: Path) -> tuple[int, int] | None:
    try:
        most = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):
        return None
    if most == "max":
        return None
    # Pages of files that nobody reads are given back before anything is refused.
    return max(0, int(most) - used + int(cached[1] if cached else 0)), int(most)
