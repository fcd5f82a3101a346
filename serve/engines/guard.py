"""`python -m serve.engines.guard [--cores 0,1] -- CMD…`: run CMD so that it can't outlive whoever
started it, on these cores only.

The guard's stdin is a pipe that its parent holds open. When the pipe ends, because the parent
closed it or was killed in any way at all, everything that CMD started gets SIGTERM and, after
`GRACE_S`, SIGKILL. When CMD ends by itself, whatever it left behind is killed and the guard exits
with its status. Should the guard itself be killed, the kernel kills CMD (PR_SET_PDEATHSIG), but not
what CMD started: that stays in the guard's session, and `serve.engines.process` ends it there. Only
if guard and gateway are both killed outright may CMD's children go on.

Descendants are found through /proc, because vLLM's workers may leave the process group; the guard
is their subreaper, so none can slip away by losing its parent. Where there is no /proc, the process
group is all that is reached. Nothing is restarted here, and the standard library is enough: a guard
costs some 10 MB.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_S = 3.0
_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Child = subprocess.Popen[bytes]


def main(arguments: list[str]) -> int:
    options, found, command = _split(arguments)
    if not found or not command or (options and options[0] != "--cores"):
        print("usage: python -m serve.engines.guard [--cores 0,1] -- COMMAND…", file=sys.stderr)
        return 2
    if options:
        # Before anything starts: children inherit it, and OpenMP makes as many threads.
        os.sched_setaffinity(0, [int(core) for core in options[1].split(",")])
    # Terminal signals are the gateway's business: it drains first, then closes the pipe.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        child = _spawn(command)
    except OSError as error:
        print(f"can't start {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    _wait_for_either(child)
    _kill_all(child)
    status = child.wait()
    return 128 - status if status < 0 else status


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _spawn(command: list[str]) -> Child:
    guard = os.getpid()

    def in_child() -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The guard may have died before the line above took hold.
        if os.getppid() != guard:
            os.kill(os.getpid(), signal.SIGKILL)

    # The guard has one thread, so running Python between fork and exec is safe.
    # A group of its own, to be signalled without the guard, but the guard's session: by that the
    # gateway finds what is left if the guard is killed.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=in_child)


def _wait_for_either(child: Child) -> None:
    """Until the child has ended or the parent has let go of the pipe."""
    stdin = sys.stdin.fileno()
    while child.poll() is None:
        readable, _, _ = select.select([stdin], [], [], _POLL_S)
        if readable and not os.read(stdin, 4096):
            return


def _kill_all(child: Child) -> None:
    _signal_all(child, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while child.poll() is None or _descendants():
        if time.monotonic() > deadline:
            # Again and again: a process may be made while the others are killed.
            _signal_all(child, signal.SIGKILL)
        time.sleep(_POLL_S / 2)


def _signal_all(child: Child, number: signal.Signals) -> None:
    """The child's process group first, then whoever left it."""
    with suppress(ProcessLookupError, PermissionError):  # the whole group may have ended
        os.killpg(child.pid, number)
    for pid in _descendants():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Every living process below this one, orphans included."""
    found, queue = [], [os.getpid()]
    while queue:
        children = _children(queue.pop())
        queue += children
        found += [pid for pid in children if _session(pid) is not None]
    return found


def living_in(session: int) -> list[int]:
    """Every living process of a session; none where there is no /proc."""
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    return [pid for pid in pids if _session(pid) == session]


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(text) for task in tasks for text in (task / "children").read_text().split()]
    except OSError:
        return []


def _session(pid: int) -> int | None:
    """The session of a living process; None where it has ended."""
    try:
        # The name before these fields may hold anything, spaces and bytes included.
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if stat[0] in (b"Z", b"X") else int(stat[3])


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
