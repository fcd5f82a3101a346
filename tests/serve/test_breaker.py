"""When an engine is left out, for how long, and what lets it in again; with a clock of our own."""

from serve.placement.breaker import OPENS_AT, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    breaker.seen(1)
    for _ in range(OPENS_AT):
        assert breaker.is_closed
        breaker.failed()
    assert not breaker.is_closed
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """One success between them begins the count anew."""
    breaker = Breaker(Clock())
    for _ in range(OPENS_AT - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(OPENS_AT - 1):
        breaker.failed()
    assert breaker.is_closed
    breaker.failed()
    assert not breaker.is_closed


def test_after_its_pause_one_request_tries_it() -> None:
    """No second one meanwhile; a success closes it, and the next pause is the first one again."""
    clock = Clock()
    breaker = _opened(clock)
    assert not breaker.may_try
    clock.now += breaker.pause_s
    assert breaker.may_try
    breaker.trying()
    assert not breaker.may_try
    breaker.succeeded()
    assert breaker.is_closed
    for _ in range(OPENS_AT):
        breaker.failed()
    assert breaker.pause_s == 1


def test_each_failed_trial_doubles_the_pause() -> None:
    """1, 2, 4, 8, 16, then 30 seconds; a failure that began before it opened changes nothing."""
    clock = Clock()
    breaker = _opened(clock)
    pauses = []
    for _ in range(7):
        pauses.append(breaker.pause_s)
        breaker.failed()
        clock.now += breaker.pause_s
        breaker.trying()
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_trial_that_tells_nothing_leaves_room_for_another() -> None:
    """The client went away, say."""
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 1
    breaker.trying()
    breaker.left()
    assert breaker.may_try


def test_a_new_life_gets_a_chance_at_once() -> None:
    """But only one: its first failure opens it again, for longer."""
    clock = Clock()
    breaker = _opened(clock)
    breaker.seen(2)
    assert breaker.is_closed
    breaker.failed()
    assert breaker.pause_s == 2
    breaker.seen(2)
    assert not breaker.is_closed


def test_a_trial_that_began_well_lets_others_in_and_may_yet_fail() -> None:
    """Until one has come to its good end, the next failure opens it again, for longer."""
    clock = Clock()
    breaker = _opened(clock)
    clock.now += breaker.pause_s
    breaker.trying()
    breaker.began()
    assert breaker.is_closed
    breaker.failed()
    assert breaker.pause_s == 2
    clock.now += breaker.pause_s
    breaker.trying()
    breaker.began()
    breaker.succeeded()
    breaker.failed()
    assert breaker.is_closed
