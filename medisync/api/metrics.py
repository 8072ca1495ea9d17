"""Figures about the service for Prometheus. With several workers they are summed over all of them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as written
from prometheus_client.multiprocess import MultiProcessCollector

from medisync.settings import Settings

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers of one service keep their figures; set before this module is imported."""

REQUESTS = Counter("medisync_requests_total", "Requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "medisync_request_seconds",
    "Seconds until the answer's first byte.",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STREAMS = Gauge("medisync_streams_open", "Open event streams.", multiprocess_mode="livesum")
STREAMS_DROPPED = Counter("medisync_streams_dropped_total", "Streams ended because the client was too slow.")
EVENTS = Counter("medisync_events_total", "Events seen in the lake.", ("event",))
CACHE = Counter("medisync_result_reads_total", "Results served, from memory or read from the lake.", ("cached",))
SNAPSHOT = Gauge("medisync_lake_snapshot", "Newest snapshot of the lake.", multiprocess_mode="max")
LAKE_READABLE = Gauge("medisync_lake_readable", "1 while the lake can be read.", multiprocess_mode="min")
RESULT_AGE = Gauge(
    "medisync_result_finished_timestamp_seconds",
    "When the served result of an analysis was made.",
    ("analysis",),
    multiprocess_mode="max",
)
RESULT_CURRENT = Gauge(
    "medisync_result_current",
    "1 while the served result is made from the data as they are.",
    ("analysis",),
    multiprocess_mode="max",
)


def text() -> tuple[bytes, str]:
    """All figures in Prometheus' text format, and its media type."""
    registry: Any = REGISTRY
    if SHARED_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return written(registry), CONTENT_TYPE_LATEST


def token(settings: Settings) -> str:
    """The token a scraper from elsewhere shows; it lies in ``data/keys/metrics.token`` for the owner alone."""
    path = token_path(settings)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
        try:
            os.link(draft, path)  # the first of several workers wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8")


def token_path(settings: Settings) -> Path:
    return settings.keys / "metrics.token"
