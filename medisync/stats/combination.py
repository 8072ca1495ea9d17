"""The candidate forecasts by name, and their combination.

The combination is the plain mean of Theta and exponential smoothing, each on the raw and on the square-root scale
(which steadies the variance of counts). Equal weights are hard to beat: Bates and Granger (1969); Smith and Wallis
(2009), Oxford Bulletin of Economics and Statistics 71, 331-355.

The wide combination is the mean of that and the autoregression, on the square-root scale: the one extrapolates each
series' own level and season, the other learns from all series what usually comes next.

All candidates answer for several origins at once, so that a forecast (one origin, the end) and a backtest (many) are
the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medisync.errors import ParameterError
from medisync.stats.autoregression import autoregression_forecasts
from medisync.stats.baselines import last_value_forecast, mean_forecast, seasonal_naive_forecast
from medisync.stats.counts import count_regression_forecast
from medisync.stats.daily import daily_regression_forecasts
from medisync.stats.sarima import SarimaOrder, sarima_forecasts
from medisync.stats.series import LONGEST_HISTORY, SELDOM, SHORTEST_HISTORY, Panel, checked_horizon
from medisync.stats.smoothing import smoothing_forecast
from medisync.stats.theta import theta_forecast

Floats = NDArray[np.float64]
Method = Literal[
    "mean",
    "last_value",
    "seasonal_naive",
    "theta",
    "theta_sqrt",
    "smoothing",
    "smoothing_sqrt",
    "combination",
    "autoregression",
    "wide_combination",
    "count_regression",
    "daily_regression",
    "sarima",
]
METHODS: tuple[Method, ...] = get_args(Method)
COMPONENTS: tuple[Method, ...] = ("theta", "theta_sqrt", "smoothing", "smoothing_sqrt")


def _theta_sqrt(values: Floats, season: int, horizon: int) -> Floats:
    return np.maximum(theta_forecast(np.sqrt(values), season, horizon, kind="additive"), 0.0) ** 2


def _smoothing_sqrt(values: Floats, season: int, horizon: int) -> Floats:
    return np.maximum(smoothing_forecast(np.sqrt(values), season, horizon), 0.0) ** 2


_BY_HISTORY: dict[str, Callable[[Floats, int, int], Floats]] = {
    "mean": mean_forecast,
    "last_value": last_value_forecast,
    "seasonal_naive": seasonal_naive_forecast,
    "theta": theta_forecast,
    "theta_sqrt": _theta_sqrt,
    "smoothing": smoothing_forecast,
    "smoothing_sqrt": _smoothing_sqrt,
    "count_regression": count_regression_forecast,
}
"""Candidates that look at one history at a time: histories of all series and origins go through as one batch."""


def default_candidates(panel: Panel) -> tuple[Method, ...]:
    """What is worth trying on ``panel``: what its frequency and its counts call for, and what has to be beaten."""
    chosen: list[Method] = ["mean", "seasonal_naive", "combination", "autoregression", "wide_combination"]
    if panel.frequency == "daily":
        chosen.append("daily_regression")
    if any(SELDOM & set(flags) for flags in panel.flags):
        chosen.append("count_regression")
    return tuple(chosen)


def checked_methods(methods: Iterable[str]) -> tuple[str, ...]:
    """``methods`` without repeats, or :class:`~medisync.errors.ParameterError` if one is unknown or there is none."""
    wanted = tuple(dict.fromkeys(methods))
    if not wanted or any(name not in METHODS for name in wanted):
        raise ParameterError("Unknown forecasting method.", hint=f"Known: {', '.join(METHODS)}.")
    return wanted


def candidate_forecasts(
    panel: Panel,
    horizon: int,
    methods: Iterable[str] = ("combination",),
    *,
    origins: NDArray[np.intp] | None = None,
    orders: Mapping[str, SarimaOrder] | None = None,
) -> dict[str, Floats]:
    """Point forecasts (n, k, horizon), at least 0, by method, from each of ``origins`` (k,).

    An origin is a number of known periods of ``panel``, increasing; without any, the one origin is the end. A series
    with fewer than eight observations before an origin gets their mean under every method, without any NaN.
    ``sarima`` needs ``orders`` by id; a series that has none, or too little history for it, gets the combination.
    """
    horizon, wanted = checked_horizon(horizon), checked_methods(methods)
    if "daily_regression" in wanted and panel.frequency != "daily":
        raise ParameterError("The regression on weekdays and holidays is for daily series.")
    n, length = panel.values.shape
    at = np.array([length], dtype=np.intp) if origins is None else origins
    if not len(at):
        return {name: np.full((n, 0, horizon), np.nan) for name in wanted}
    longest = LONGEST_HISTORY[panel.frequency]
    histories = histories_until(panel.values, at, longest)
    rows = histories.reshape(n * len(at), -1)
    average = mean_forecast(rows, panel.season, horizon)
    short = (np.isfinite(rows).sum(axis=1) < SHORTEST_HISTORY)[:, None]
    parts = {*wanted, *(("combination", "autoregression") if "wide_combination" in wanted else ())}
    parts |= {"combination"} if "sarima" in parts else set()
    parts |= set(COMPONENTS) if "combination" in parts else set()
    # Columns no origin may look back to are cut; the rest of the panel moves with its calendar.
    cut = max(0, int(at[0]) - longest)
    values, periods = panel.values[:, cut:], panel.periods[cut:]
    made: dict[str, Floats] = {}
    for name in (one for one in METHODS if one in parts):
        if name in _BY_HISTORY:
            forecast = average if name == "mean" else _BY_HISTORY[name](rows, panel.season, horizon)
        elif name == "autoregression":
            forecast = autoregression_forecasts(values, panel.season, horizon, at - cut).reshape(-1, horizon)
        elif name == "daily_regression":
            forecast = daily_regression_forecasts(values, periods, horizon, at - cut).reshape(-1, horizon)
        else:
            continue
        made[name] = np.where(short, average, np.maximum(forecast, 0.0))
    if "combination" in parts:
        made["combination"] = np.mean([made[name] for name in COMPONENTS], axis=0)
    if "wide_combination" in parts:
        made["wide_combination"] = (np.sqrt(made["combination"]) + np.sqrt(made["autoregression"])) ** 2 / 4
    if "sarima" in parts:
        own = _by_order(values, panel.ids, orders or {}, horizon, at - cut).reshape(-1, horizon)
        made["sarima"] = np.where(np.isfinite(own), own, made["combination"])
    return {name: made[name].reshape(n, len(at), horizon) for name in wanted}


def _by_order(
    values: Floats, ids: tuple[str, ...], orders: Mapping[str, SarimaOrder], horizon: int, origins: NDArray[np.intp]
) -> Floats:
    """SARIMA forecasts (n, k, horizon), NaN for series without an order."""
    result = np.full((len(values), len(origins), horizon), np.nan)
    for i, name in enumerate(ids):
        if name in orders:
            result[i] = sarima_forecasts(values[i], orders[name], horizon, origins)
    return result


def histories_until(values: Floats, origins: NDArray[np.intp], longest: int) -> Floats:
    """Histories (n, k, width) that end, at the right edge, before each of ``origins``; NaN where a history is shorter.

    Season positions count from the left edge and differ between rows, which no method that looks at one history at a
    time can notice.
    """
    width = min(int(origins[-1]), longest)
    stack = np.full((len(values), len(origins), width), np.nan)
    for j, origin in enumerate(origins):
        taken = min(int(origin), width)
        stack[:, j, width - taken :] = values[:, origin - taken : origin]
    return stack
