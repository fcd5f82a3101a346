"""How often a cache of so many slots could have held what a trace asks for, by several rules.

Everything that is asked for has to be loaded, as an engine has to before it answers.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Sequence


def optimum(trace: Sequence[str], slots: int) -> float:
    """The share of hits of the best of all rules, which knows the future: what is asked for again
    last, or never, is dropped (L. A. Belady, "A study of replacement algorithms for a
    virtual-storage computer", IBM Systems Journal 5(2), 1966)."""
    never = len(trace)
    following = [never] * len(trace)
    seen: dict[str, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        following[at] = seen.get(trace[at], never)
        seen[trace[at]] = at
    held: dict[str, int] = {}  # to when it is asked for again
    furthest: list[tuple[int, str]] = []  # of all ever held; what is out of date is passed over
    hits = 0
    for at, name in enumerate(trace):
        if name in held:
            hits += 1
        elif len(held) >= slots:
            while True:
                when, other = heapq.heappop(furthest)
                if held.get(other) == -when:
                    break
            del held[other]
        held[name] = following[at]
        heapq.heappush(furthest, (-following[at], name))
    return hits / len(trace)


def least_recently_used(trace: Sequence[str], slots: int) -> float:
    held: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for name in trace:
        if name in held:
            hits += 1
            held.move_to_end(name)
        else:
            if len(held) >= slots:
                held.popitem(last=False)
            held[name] = None
    return hits / len(trace)


def least_often_used(trace: Sequence[str], slots: int) -> float:
    """Dropped is what has been asked for least often so far, loaded or not; of equals the one that
    was used longest ago."""
    return _rarest_dropped(trace, slots, Counter())


def most_popular(trace: Sequence[str], slots: int) -> float:
    """The same for who knows beforehand how often each will be asked for. Where requests are drawn
    independently, nobody does better in the long run who does not know when (A. V. Aho, P. J.
    Denning, J. D. Ullman, "Principles of optimal page replacement", Journal of the ACM 18(1),
    1971)."""
    return _rarest_dropped(trace, slots, Counter(trace))


def _rarest_dropped(trace: Sequence[str], slots: int, often: Counter[str]) -> float:
    held: dict[str, int] = {}  # to when it was last used
    hits = 0
    for at, name in enumerate(trace):
        often[name] += 1
        if name in held:
            hits += 1
        elif len(held) >= slots:
            del held[min(held, key=lambda other: (often[other], held[other]))]
        held[name] = at
    return hits / len(trace)
