"""What the gateway writes to stderr: warnings as text, or everything as JSON, one object a line.

In JSON there is a line for every request too. Every line that is written while a request is served
carries its `request_id`, the one that its answer has in `x-request-id`. What was asked and answered
is never in these lines: that is in the interaction log, under `interaction`.
"""

import json
import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from hub.clock import stamp

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(name)s: %(message)s"

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonLines(logging.Formatter):
    """`extra={"fields": {…}}` of a record stands beside its time, level, logger and message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": stamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


def log_to_stderr(kind: LogFormat = "text") -> None:
    """Leaves a logging that is set up already alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if kind == "json":
        logging.getLogger("serve").setLevel(logging.INFO)
