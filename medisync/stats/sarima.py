"""Seasonal ARIMA with stored orders: the slow search apart from the quick use.

:func:`search_order` follows the stepwise search of Hyndman and Khandakar (2008), Journal of Statistical Software 27(3):
differences by a stationarity test, then neighbours of the best model so far by AICc, bounded by a number of models.
Models whose optimiser did not converge, or with a root near the unit circle, are not chosen. It belongs into a weekly
run; :func:`sarima_forecasts` estimates the parameters of a given order once, or takes stored ones, and only filters.

All on the square-root scale. Seasons longer than 24 periods are harmonic regressors with ARIMA errors, since a state
of 52 weeks costs seconds and has too few repetitions to be learned.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medisync.errors import SeriesError
from medisync.stats.seasonal import LONGEST_UNSMOOTHED_SEASON, seasonal_indices
from medisync.stats.series import LONGEST_HISTORY, Panel, checked_horizon

Floats = NDArray[np.float64]

MOST_MODELS = 20
LARGEST_LAG = 3
HARMONICS = 2
SHORTEST = 24
"""Observations below which no order is searched."""
SMALLEST_ROOT = 1.001
SEASONAL_SHARE = 0.64
"""Strength of season from which on seasonal differences are taken: Wang, Smith and Hyndman (2006)."""
_ROUNDS = 80


@dataclass(frozen=True)
class SarimaOrder:
    """What the search found: small, plain, to be stored as JSON.

    ``order`` (p, d, q), ``seasonal`` (P, D, Q) at lag ``season`` (0: none), ``harmonics`` pairs of regressors with
    period ``period``; ``drift``: a constant, which is a drift if d = 1. ``parameters`` are the estimates, ``aicc``
    their criterion, ``models`` how many were tried; ``converged`` is False only for the fallback when none did.
    """

    order: tuple[int, int, int]
    seasonal: tuple[int, int, int]
    season: int
    period: int
    harmonics: int
    drift: bool
    parameters: tuple[float, ...] = ()
    aicc: float = float("nan")
    converged: bool = False
    models: int = 0


def search_orders(panel: Panel, *, most_models: int = MOST_MODELS) -> dict[str, SarimaOrder]:
    """The order of each series, by id, for :func:`~medisync.stats.forecasting.forecast_panel`.

    Series with fewer than 24 observations, or for which no model converged, are left out.
    """
    longest = LONGEST_HISTORY[panel.frequency]
    found: dict[str, SarimaOrder] = {}
    for name, values in zip(panel.ids, panel.values[:, -longest:], strict=True):
        if np.isfinite(values).sum() >= SHORTEST:
            order = search_order(values, panel.season, most_models=most_models)
            found |= {name: order} if order.converged else {}
    return found


def restored_order(stored: Mapping[str, Any]) -> SarimaOrder:
    """The order whose ``dataclasses.asdict`` went through JSON, which knows no tuples."""
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    return SarimaOrder(**given)


def search_order(values: Floats, season: int, *, most_models: int = MOST_MODELS) -> SarimaOrder:
    """The best order for one series (t,), at least 0 and NaN where missing, by a bounded stepwise search.

    Raises :class:`~medisync.errors.SeriesError` with fewer than 24 observations. A constant series, or one for which no
    model converges, gets (0, 0, 0) with a constant and ``converged`` False.
    """
    root = _root(values)
    if np.isfinite(root).sum() < SHORTEST:
        raise SeriesError(f"An order is searched from {SHORTEST} observations on.", hint="Use another method.")
    start = _differences(root, season)
    fallback = replace(start, order=(0, 0, 0), seasonal=(0, 0, 0), season=0, drift=True)
    if np.nanmax(root) - np.nanmin(root) == 0:
        return fallback
    tried: dict[tuple[object, ...], SarimaOrder] = {}

    def best_of(candidates: list[SarimaOrder]) -> SarimaOrder | None:
        for one in candidates:
            key = (one.order, one.seasonal, one.drift)
            if key not in tried and len(tried) < most_models:
                tried[key] = _estimated(root, one)
        fine = [one for one in tried.values() if one.converged]
        return min(fine, key=lambda one: one.aicc) if fine else None

    best = best_of(_starting_points(start))
    while best is not None and len(tried) < most_models:
        better = best_of(_neighbours(best))
        if better is None or better is best:
            break
        best = better
    return replace(best, models=len(tried)) if best is not None else replace(fallback, models=len(tried))


def sarima_forecasts(values: Floats, order: SarimaOrder, horizon: int, origins: NDArray[np.intp]) -> Floats:
    """Point forecasts (k, horizon) of one series (t,) from each of ``origins`` (k,), increasing.

    Parameters are estimated on the values before the first origin, starting from the stored ones, so that no origin
    has seen its future; one pass of the filter then serves all origins. NaN where too little is known to estimate.
    """
    horizon = checked_horizon(horizon)
    root = _root(values)
    nothing = np.full((len(origins), horizon), np.nan)
    first = int(origins[0])
    if np.isfinite(root[:first]).sum() < SHORTEST // 2:
        return nothing
    known = _estimated(root[:first], order)
    if not known.parameters:
        return nothing
    result: Floats = np.maximum(_from_each_origin(root, known, horizon, origins), 0.0) ** 2
    return result


def _from_each_origin(root: Floats, order: SarimaOrder, horizon: int, origins: NDArray[np.intp]) -> Floats:
    """Forecasts (k, horizon) on the square-root scale: what the filter expects at each origin, carried forward."""
    last = int(origins[-1])
    model = _model(np.concatenate([root[:last], np.full(horizon, np.nan)]), order)
    state = model.filter(np.asarray(order.parameters)).filter_results.predicted_state[:, origins].T
    design, transition = model.ssm["design"], model.ssm["transition"]
    observed = model.ssm["obs_intercept"].reshape(-1)  # one a period with regressors, one without
    drift = model.ssm["state_intercept"].reshape(state.shape[1], -1)[:, 0]
    forecasts = np.empty((len(origins), horizon))
    for step in range(horizon):
        forecasts[:, step] = state @ design[0] + (observed[origins + step] if len(observed) > 1 else observed[0])
        state = state @ transition.T + drift
    return forecasts


def _root(values: Floats) -> Floats:
    given = np.asarray(values, dtype=float)
    if given.ndim != 1 or np.isinf(given).any() or (given < 0).any():
        raise SeriesError("One series of finite values that are at least 0, NaN where missing, is expected.")
    root: Floats = np.sqrt(given)
    return root


def _model(root: Floats, order: SarimaOrder) -> Any:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    regressors = None
    if order.harmonics:
        angle = 2 * np.pi * np.arange(len(root)) / order.period
        regressors = np.stack([w(k * angle) for k in range(1, order.harmonics + 1) for w in (np.sin, np.cos)], axis=1)
    seasonal = (*order.seasonal, order.season) if order.season else (0, 0, 0, 0)
    return SARIMAX(
        root, exog=regressors, order=order.order, seasonal_order=seasonal, trend="c" if order.drift else None
    )


def _estimated(root: Floats, order: SarimaOrder) -> SarimaOrder:
    """``order`` with parameters and criterion; not converged if anything about the fit is doubtful."""
    import statsmodels.tsa.statespace.sarimax  # noqa: F401 - it sets warning filters, which must not follow ours

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubts are judged below, from the fit itself
        try:
            model = _model(root, order)
            start = order.parameters if len(order.parameters) == len(model.start_params) else None
            fit = model.fit(start_params=start, disp=False, maxiter=_ROUNDS)
        except (ValueError, np.linalg.LinAlgError):
            return replace(order, parameters=(), aicc=float("inf"), converged=False)
    roots = np.abs(np.concatenate([fit.arroots, fit.maroots]))
    converged = bool(fit.mle_retvals["converged"]) and np.isfinite(fit.aicc) and bool((roots > SMALLEST_ROOT).all())
    return replace(order, parameters=tuple(map(float, fit.params)), aicc=float(fit.aicc), converged=converged)


def _differences(root: Floats, season: int) -> SarimaOrder:
    """The differences a series needs, and how its season is modelled."""
    seasonal = 2 <= season <= LONGEST_UNSMOOTHED_SEASON and len(root) >= 3 * season
    harmonics = HARMONICS if season > LONGEST_UNSMOOTHED_SEASON and len(root) >= 2 * season else 0
    large = 0
    if seasonal:
        pattern = seasonal_indices(root[None, :], season, kind="additive")
        rest = np.nanvar(pattern.remove(root[None, :]))
        large = int(1 - rest / max(float(np.nanvar(root)), 1e-12) > SEASONAL_SHARE)
    test = root[season:] - root[:-season] if large else root
    small = int(_level_wanders(test[np.isfinite(test)]))
    return SarimaOrder(
        order=(0, small, 0),
        seasonal=(0, large, 0),
        season=season if seasonal else 0,
        period=max(season, 1),
        harmonics=harmonics,
        drift=small + large == 0,
    )


def _level_wanders(values: Floats) -> bool:
    """KPSS test of a constant level at 5 %: Kwiatkowski, Phillips, Schmidt and Shin (1992), critical value 0.463."""
    deviation = values - values.mean()
    n = len(values)
    lags = int(4 * (n / 100) ** 0.25)
    variance = float(deviation @ deviation) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(deviation[lag:] @ deviation[:-lag]) / n
    return bool(variance > 0 and float((np.cumsum(deviation) ** 2).sum()) / n**2 / variance > 0.463)


def _starting_points(start: SarimaOrder) -> list[SarimaOrder]:
    d, large = start.order[1], start.seasonal[1]
    s = 1 if start.season else 0
    pairs = [((2, d, 2), (s, large, s)), ((0, d, 0), (0, large, 0)), ((1, d, 0), (s, large, 0))]
    pairs.append(((0, d, 1), (0, large, s)))
    return [replace(start, order=order, seasonal=seasonal) for order, seasonal in pairs]


def _neighbours(best: SarimaOrder) -> list[SarimaOrder]:
    """Orders one step away: each lag up or down, both short lags together, and with or without a drift."""
    (p, d, q), (seasonal_p, large, seasonal_q) = best.order, best.seasonal
    short = [(p + a, d, q + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1))]
    found = [replace(best, order=one) for one in short if 0 <= one[0] <= LARGEST_LAG and 0 <= one[2] <= LARGEST_LAG]
    if best.season:
        long = [(seasonal_p + a, large, seasonal_q + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        found += [replace(best, seasonal=one) for one in long if 0 <= one[0] <= 1 and 0 <= one[2] <= 1]
    if d + large <= 1:
        found.append(replace(best, drift=not best.drift))
    return [replace(one, parameters=()) for one in found]
