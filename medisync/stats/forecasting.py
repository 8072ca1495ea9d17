"""From a panel to forecasts that carry their own measured accuracy: the one way analyses forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.errors import ParameterError
from medisync.stats.accuracy_test import AccuracyTest, Verdict, diebold_mariano
from medisync.stats.backtest import Backtest, backtest, spread_step
from medisync.stats.combination import METHODS, candidate_forecasts, default_candidates
from medisync.stats.intervals import ErrorModel, fit_error_model, prediction_quantiles
from medisync.stats.level_shift import LevelShift, level_shift, no_shift
from medisync.stats.sarima import SarimaOrder
from medisync.stats.scores import LEVELS, checked_levels, interval_coverage, known_mean, weighted_interval_score
from medisync.stats.series import SELDOM, Panel, checked_horizon, zeros_before_start

Floats = NDArray[np.float64]

AUTO = "auto"
REFERENCES = ("mean", "seasonal_naive")
ORIGINS = {"daily": 52, "weekly": 52, "monthly": 30}
"""Past origins used unless told otherwise: with steps of one week they span every season of a year."""
USED = "used"
"""Name, among past forecasts, of those by the methods used."""
SLOW = ("mean", "seasonal_naive", "combination", "daily_regression")
"""Methods that may follow a new level slowly, if at all."""
SMALLEST_GAIN = 0.02
"""Share by which a candidate has to beat the mean: nobody should plan by a smaller difference."""
FEWEST_CLEAR = 3
"""Origins at which a candidate must beat the mean, each time, where they are too few for a standard error."""
BURN_IN = 10
"""Origins whose errors are needed before past intervals are scored."""


@dataclass(frozen=True)
class Accuracy:
    """What one method did in the backtest, by series; percent and periods as named, NaN where it cannot be said.

    ``mase`` (n,) mean absolute error in units of the in-sample seasonal difference; ``mae`` and ``wis`` in events;
    ``skill_*_percent`` (n,) how much smaller the mean absolute error is than the reference's; ``coverage`` percent of
    truths inside the 50, 80 and 95 % intervals, over all series, and ``inside_80_percent`` (n,) inside the 80 % ones by
    series; the intervals scored at an origin are made of errors known before it. ``test`` compares absolute errors
    with the mean's.
    """

    method: str
    mae: Floats
    mase: Floats
    wis: Floats
    skill_mean_percent: Floats
    skill_seasonal_naive_percent: Floats
    coverage: dict[int, float]
    inside_80_percent: Floats
    scored_intervals: int
    test: AccuracyTest

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict per series."""
        return self.test.verdicts()


@dataclass(frozen=True)
class Forecast:
    """Forecasts of ``n`` series, ``h`` periods ahead, and how far they can be trusted.

    ``median`` (n, h), ``quantiles`` (n, h, levels), ``periods`` (h,) first days; ``methods`` (n,) are those used and
    ``accuracy`` theirs, ``accuracies`` those of all candidates; ``errors`` is what the intervals are made of.
    ``level_shift_percent`` (n,) is by how much the last periods lie above what was expected of them, where they are so
    far off that the forecast goes on from there (:mod:`medisync.stats.level_shift`), else NaN.
    """

    panel: Panel
    periods: pd.DatetimeIndex
    methods: tuple[str, ...]
    median: Floats
    levels: tuple[float, ...]
    quantiles: Floats
    errors: ErrorModel
    level_shift_percent: Floats
    accuracy: Accuracy
    accuracies: dict[str, Accuracy]
    past: Backtest

    @property
    def method(self) -> str:
        """The method used for most series."""
        return max(dict.fromkeys(self.methods), key=self.methods.count)

    def frame(self) -> pd.DataFrame:
        """Long frame: ``unique_id, ds, step, lower_95, lower_80, lower_50, median, upper_50, upper_80, upper_95``.

        Columns follow the levels; ``step`` counts periods from 1.
        """
        n, horizon = self.median.shape
        columns: dict[str, object] = {
            "unique_id": np.repeat(np.asarray(self.panel.ids, dtype=object), horizon),
            "ds": np.tile(self.periods.to_numpy(), n),
            "step": np.tile(np.arange(1, horizon + 1), n),
        }
        for i, name in enumerate(quantile_names(self.levels)):
            columns[name] = self.quantiles[:, :, i].ravel()
        return pd.DataFrame(columns)


def quantile_names(levels: Sequence[float] = LEVELS) -> tuple[str, ...]:
    """Column names of quantile levels: ``lower_95`` for 0.025, ``median``, ``upper_95`` for 0.975."""
    names = []
    for level in checked_levels(levels):
        width = f"{100 * abs(1 - 2 * level):.6g}".replace(".", "_")
        names.append("median" if abs(level - 0.5) < 1e-9 else f"{'lower' if level < 0.5 else 'upper'}_{width}")
    return tuple(names)


def forecast_panel(
    panel: Panel,
    horizon: int,
    *,
    method: str = AUTO,
    candidates: Sequence[str] | None = None,
    origins: int | None = None,
    step: int | None = None,
    levels: Sequence[float] = LEVELS,
    orders: Mapping[str, SarimaOrder] | None = None,
) -> Forecast:
    """Forecast every series of ``panel`` for ``horizon`` periods.

    ``method`` ``auto`` takes the candidate with the smallest scaled error over the whole panel in the backtest, and
    the mean if none clearly beats it (:func:`best_method`); series with fewer than one event a period, or intermittent
    ones, have their own choice (:func:`best_rare_method`). ``origins`` defaults to a year of weeks, 52, or to 30
    months; ``step`` (periods between origins) is spread over the history unless given. Stored SARIMA ``orders`` by id
    make that a candidate. Raises :class:`~medisync.errors.ParameterError` for a horizon outside 1 to 366, an unknown
    method, or levels that are not symmetric.
    """
    horizon, given = checked_horizon(horizon), tuple(checked_levels(levels).tolist())
    panel = _begun(panel)
    if method != AUTO and method not in METHODS:
        raise ParameterError("Unknown forecasting method.", hint=f"Known: auto, {', '.join(METHODS)}.")
    tried = tuple(candidates) if candidates else default_candidates(panel)
    if orders:
        tried = (*tried, "sarima")
    if method != AUTO:
        tried = (method,)
    tried = tuple(dict.fromkeys((*REFERENCES, *tried)))
    count = ORIGINS[panel.frequency] if origins is None else origins
    every = spread_step(panel.values.shape[1], panel.season, horizon, origins=count) if step is None else step
    past = backtest(panel, horizon, methods=tried, origins=count, step=every, orders=orders)
    used = _methods_used(panel, past, method)
    accuracies = {name: measured_accuracy(panel, past, name, intervals=False) for name in tried}
    made = _picked(candidate_forecasts(panel, horizon, used, orders=orders), used)[:, 0]
    past_made = _picked(past.forecasts, used)
    errors = fit_error_model(past.truth, past_made, past.overlap)
    shift = _shift(panel, horizon, used, past, past_made, orders)
    made, errors = shift.moved(made), shift.widened(errors)
    quantiles = prediction_quantiles(errors, made, given, history=panel.values)
    with_used = replace(past, forecasts={**past.forecasts, USED: past_made})
    return Forecast(
        panel=panel,
        periods=panel.future(horizon),
        methods=used,
        median=quantiles[:, :, len(given) // 2],
        levels=given,
        quantiles=quantiles,
        errors=errors,
        level_shift_percent=shift.percent,
        accuracy=measured_accuracy(panel, with_used, USED),
        accuracies=accuracies,
        past=with_used,
    )


def _begun(panel: Panel) -> Panel:
    """``panel`` with what lies before a series' start as missing."""
    before = np.arange(panel.values.shape[1]) < zeros_before_start(panel.values)[:, None]
    return replace(panel, values=np.where(before, np.nan, panel.values)) if before.any() else panel


def best_method(past: Backtest) -> str:
    """The method with the smallest mean scaled error over all series, or the mean if that is not clearly beaten.

    Clearly: by at least 2 %, and by more than one standard error of the difference (the rule of Breiman, Friedman,
    Olshen and Stone 1984, "Classification and Regression Trees", section 3.4.3); with origins too few for one, at
    each of at least three origins.
    """
    errors = {name: _scaled(past, name) for name in past.forecasts}
    scores = {name: float(known_mean(error)) for name, error in errors.items()}
    finite = {name: score for name, score in scores.items() if np.isfinite(score)}
    if not finite:
        return "mean"
    best = min(finite, key=lambda name: finite[name])
    if "mean" not in finite or best == "mean":
        return best
    by_origin = {name: known_mean(errors[name], axis=(0, 2))[None, :] for name in (best, "mean")}
    statistic = diebold_mariano(by_origin[best], by_origin["mean"], past.overlap).statistic[0]
    if np.isfinite(statistic):
        clear = bool(statistic < -1)
    else:
        gain = by_origin["mean"][0] - by_origin[best][0]
        gain = gain[np.isfinite(gain)]
        clear = len(gain) >= FEWEST_CLEAR and bool((gain > 0).all())
    return best if clear and finite[best] < (1 - SMALLEST_GAIN) * finite["mean"] else "mean"


def best_rare_method(past: Backtest) -> str:
    """Count regression if its squared error is at least 2 % below the mean's, else the mean.

    Of rare events the expected number is wanted: the absolute error would favour a forecast of 0, and forecasts on the
    square-root scale fall short of the expectation.
    """
    if "count_regression" not in past.forecasts:
        return "mean"
    square = {
        name: float(known_mean((past.forecasts[name] - past.truth) ** 2)) for name in ("mean", "count_regression")
    }
    return "count_regression" if square["count_regression"] < (1 - SMALLEST_GAIN) * square["mean"] else "mean"


def measured_accuracy(panel: Panel, past: Backtest, method: str, *, intervals: bool = True) -> Accuracy:
    """How ``method`` did in ``past``; without ``intervals`` their scores stay NaN, which saves half of the work."""
    error = np.abs(past.forecasts[method] - past.truth)
    by_origin = known_mean(error, axis=2)
    mae = known_mean(error, axis=(1, 2))
    wis, coverage, scored = np.full(len(mae), np.nan), dict.fromkeys((50, 80, 95), float("nan")), 0
    inside = np.full(len(mae), np.nan)
    if intervals and len(past.origins) > BURN_IN:
        quantiles = past_quantiles(panel, past, method)
        truth = past.truth[:, BURN_IN:]
        wis = known_mean(weighted_interval_score(quantiles, truth), axis=(1, 2))
        coverage = interval_coverage(quantiles, truth)
        known = np.where(np.isfinite(truth) & np.isfinite(quantiles[..., 0]), 1.0, np.nan)
        inside = 100 * known_mean(known * ((truth >= quantiles[..., 1]) & (truth <= quantiles[..., -2])), axis=(1, 2))
        scored = int((np.isfinite(truth) & np.isfinite(quantiles[..., 0])).sum())
    return Accuracy(
        method=method,
        mae=mae,
        mase=known_mean(_scaled(past, method), axis=(1, 2)),
        wis=wis,
        skill_mean_percent=_skill(mae, past, "mean"),
        skill_seasonal_naive_percent=_skill(mae, past, "seasonal_naive"),
        coverage=coverage,
        inside_80_percent=inside,
        scored_intervals=scored,
        test=diebold_mariano(by_origin, known_mean(np.abs(past.forecasts["mean"] - past.truth), axis=2), past.overlap),
    )


def past_quantiles(panel: Panel, past: Backtest, method: str, levels: Sequence[float] = LEVELS) -> Floats:
    """Quantiles (n, k - 10, h, levels) each origin after the tenth would have got from the errors known by then."""
    n, k, horizon = past.truth.shape
    made = past.forecasts[method]
    result = np.full((n, max(k - BURN_IN, 0), horizon, len(levels)), np.nan)
    ends = past.origins[:, None] + np.arange(1, horizon + 1)  # known once that many periods are
    for j in range(BURN_IN, k):
        truth = np.where(ends[None, :j] <= past.origins[j], past.truth[:, :j], np.nan)
        model = fit_error_model(truth, made[:, :j], past.overlap)
        history = panel.values[:, : past.origins[j]]
        result[:, j - BURN_IN] = prediction_quantiles(model, made[:, j], levels, history=history)
    return result


def _methods_used(panel: Panel, past: Backtest, method: str) -> tuple[str, ...]:
    """The method (n,) of each series."""
    if method != AUTO:
        return (method,) * len(panel.ids)
    rare = np.array([bool(SELDOM & set(flags)) for flags in panel.flags])
    common = best_method(_rows(past, ~rare)) if not rare.all() else "mean"
    seldom = best_rare_method(_rows(past, rare)) if rare.any() else "mean"
    return tuple(seldom if one else common for one in rare)


def _shift(
    panel: Panel,
    horizon: int,
    methods: tuple[str, ...],
    past: Backtest,
    past_made: Floats,
    orders: Mapping[str, SarimaOrder] | None,
) -> LevelShift:
    """Level shifts of the series that are not rare (of these a few periods say nothing), by :data:`SLOW` methods."""

    def forecasts_from(origin: int, periods: int) -> Floats:
        made = candidate_forecasts(panel, periods, methods, origins=np.array([origin]), orders=orders)
        return _picked(made, methods)[:, 0]

    slow = zip(methods, panel.flags, strict=True)
    looked_at = np.array([method in SLOW and not SELDOM & set(flags) for method, flags in slow])
    if not looked_at.any():
        return no_shift(len(panel.ids), horizon)
    errors = np.where(~looked_at[:, None, None], np.nan, np.sqrt(past.truth) - np.sqrt(past_made))
    return level_shift(panel.values, horizon, forecasts_from, errors, past.step)


def _rows(past: Backtest, rows: NDArray[np.bool_]) -> Backtest:
    forecasts = {name: made[rows] for name, made in past.forecasts.items()}
    return replace(past, truth=past.truth[rows], forecasts=forecasts, scale=past.scale[rows])


def _picked(forecasts: Mapping[str, Floats], methods: tuple[str, ...]) -> Floats:
    """The forecasts (n, k, h) of each series by its own method."""
    return np.stack([forecasts[name][i] for i, name in enumerate(methods)])


def _scaled(past: Backtest, method: str) -> Floats:
    """Absolute errors (n, k, h) in units of the seasonal difference known at each origin."""
    return np.abs(past.forecasts[method] - past.truth) / past.scale[:, :, None]


def _skill(mae: Floats, past: Backtest, reference: str) -> Floats:
    """Percent by which ``mae`` (n,) is below the reference's; NaN where the reference makes no error."""
    other = known_mean(np.abs(past.forecasts[reference] - past.truth), axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(other > 0, 100 * (1 - mae / other), np.nan)
