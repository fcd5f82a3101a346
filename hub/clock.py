"""Time as the hub writes it: UTC, ISO 8601, milliseconds, so that text order is time order."""

from datetime import UTC, datetime

from hub.errors import UsageError


def now() -> str:
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> str:
    """Any ISO 8601 time (local where it names no zone) in the hub's own spelling.

    Raises:
        UsageError: when it is not a time.
    """
    try:
        return stamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"'{text}' is not a time", hint="Write it like 2026-05-01T12:00 or 2026-05-01."
        ) from error
