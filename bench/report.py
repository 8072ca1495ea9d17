"""What every benchmark prints: a table, or with ``--json`` one object.

The object is ``{metric: {value, unit, goal, peer, peer_value}}``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # CPU seconds of one core; read when numpy is imported, so before it


@dataclass(frozen=True)
class Metric:
    """One measured number, what it should reach, and what a named peer reaches."""

    value: float
    unit: str
    goal: str
    peer: str | None = None
    peer_value: float | None = None


def main(measure: Callable[[], Mapping[str, Metric]], arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    as_json = parser.parse_args(arguments).json
    metrics = measure()
    print(json.dumps({name: asdict(one) for name, one in metrics.items()}, indent=2) if as_json else as_table(metrics))


def as_table(metrics: Mapping[str, Metric]) -> str:
    """The metrics as aligned text."""
    rows = [("metric", "value", "unit", "goal", "peer", "peer's value")]
    for name, one in metrics.items():
        peer_value = "" if one.peer_value is None else f"{one.peer_value:.4g}"
        rows.append((name, f"{one.value:.4g}", one.unit, one.goal, one.peer or "", peer_value))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
