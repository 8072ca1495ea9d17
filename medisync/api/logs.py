"""The API's log: text for people, or one JSON object a line; the request's and the run's id on every line."""

from __future__ import annotations

import contextvars
import datetime as dt
import json
import logging
import sys

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
"""The id of the request that is being answered."""

FIELDS = ("request_id", "run_id", "delivery_id", "user", "method", "path", "status", "milliseconds", "event")
"""What a line may carry beside its message; given as ``extra`` to the logging call."""


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time, level, logger, message`` and what the line carries."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **carried(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """Time, level, message, and what the line carries as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={value}" for name, value in carried(record).items())
        text = f"{moment}Z {record.levelname} {record.getMessage()}{f' [{fields}]' if fields else ''}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def carried(record: logging.LogRecord) -> dict[str, object]:
    """The fields of one line that have a value."""
    found = {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
    current = request_id.get()
    if current is not None:
        found.setdefault("request_id", current)
    return found


def start_logging(*, as_json: bool) -> None:
    """Send this process's log to stderr in our form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name, level in {"httpx": logging.WARNING, "httpcore": logging.WARNING, "uvicorn.access": logging.ERROR}.items():
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
