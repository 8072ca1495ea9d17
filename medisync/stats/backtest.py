"""What the forecasts would have been: the same functions run again at past origins, with what was known then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError
from medisync.stats.combination import candidate_forecasts
from medisync.stats.sarima import SarimaOrder
from medisync.stats.scores import naive_scale
from medisync.stats.series import SHORTEST_HISTORY, Panel, checked_horizon

Floats = NDArray[np.float64]

ORIGINS = 30
"""Past origins used unless told otherwise."""


@dataclass(frozen=True)
class Backtest:
    """Past forecasts of ``n`` series from ``k`` origins, ``horizon`` periods each.

    ``origins`` (k,) are the numbers of periods known, increasing, ``step`` apart; ``truth`` (n, k, horizon) is NaN
    where missing or still to come; ``forecasts`` by method, same shape; ``scale`` (n, k) the mean absolute seasonal
    difference known at each origin, the denominator of MASE.
    """

    origins: NDArray[np.intp]
    step: int
    horizon: int
    truth: Floats
    forecasts: dict[str, Floats]
    scale: Floats

    @property
    def overlap(self) -> int:
        """Number of consecutive origins whose forecasts share a period."""
        return -(-self.horizon // self.step)


def backtest(
    panel: Panel,
    horizon: int,
    *,
    methods: Iterable[str] = ("combination", "mean", "seasonal_naive"),
    origins: int = ORIGINS,
    step: int = 1,
    orders: Mapping[str, SarimaOrder] | None = None,
) -> Backtest:
    """Forecast ``panel`` again from up to ``origins`` past origins ``step`` periods apart.

    The last origin is one period before the end, so that short horizons have a truth from nearly every origin. The
    first leaves two seasons of history, or half of the panel where it is shorter, and never fewer than eight periods;
    a panel that is too short for any origin gives ``k`` = 0.
    """
    horizon = checked_horizon(horizon)
    if origins < 1 or step < 1:
        raise ParameterError("A backtest needs at least one origin and a step of at least one period.")
    n, length = panel.values.shape
    at = past_origins(length, panel.season, origins=origins, step=step)
    truth = np.full((n, len(at), horizon), np.nan)
    scale = np.full((n, len(at)), np.nan)
    for j, origin in enumerate(at):
        ahead = panel.values[:, origin : origin + horizon]
        truth[:, j, : ahead.shape[1]] = ahead
        scale[:, j] = naive_scale(panel.values[:, :origin], panel.season)
    forecasts = candidate_forecasts(panel, horizon, methods, origins=at, orders=orders)
    return Backtest(origins=at, step=step, horizon=horizon, truth=truth, forecasts=forecasts, scale=scale)


def past_origins(length: int, season: int, *, origins: int = ORIGINS, step: int = 1) -> NDArray[np.intp]:
    """Numbers of known periods at each past origin, increasing, for a series of ``length`` periods."""
    first = max(SHORTEST_HISTORY, min(2 * season, length // 2))
    return np.arange(length - 1, first - 1, -step, dtype=np.intp)[:origins][::-1]


def spread_step(length: int, season: int, horizon: int, *, origins: int = ORIGINS) -> int:
    """The step that spreads ``origins`` over the history that allows it, at most half a horizon wide.

    Wider steps make the origins more independent of each other; half a horizon keeps every period covered twice.
    """
    first = max(SHORTEST_HISTORY, min(2 * season, length // 2))
    return max(1, min(-(-horizon // 2), (length - first) // max(origins, 1)))
