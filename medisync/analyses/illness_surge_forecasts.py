"""How many admissions to expect with each condition, everywhere and at each site, with the accuracy measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medisync.analyses.contract import Scalar, Table
from medisync.analyses.illness_surge_counts import EVERYWHERE
from medisync.analyses.published_forecasts import kept_forecast, score_published
from medisync.stats.accuracy_test import SIGNIFICANCE, Verdict
from medisync.stats.forecasting import Forecast, forecast_panel
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.series import Panel, SeriesFlag, series_flags

FEWEST_WEEKS = 52
"""Series with fewer observed weeks are not forecast: a year of it has never been seen."""
ORIGINS = 26
"""Past origins, two weeks apart at the usual horizon of four: each season of a year is among them."""


@dataclass(frozen=True)
class SeriesForecasts:
    """What the forecasts add to the result; nothing where no series has enough weeks."""

    tables: dict[str, Table] = field(default_factory=dict)
    metrics: dict[str, Scalar] = field(default_factory=dict)
    kept: dict[Literal["forecasts", "surges"], Table] = field(default_factory=dict)


def forecast_series(panel: Panel, names: pd.DataFrame, horizon_weeks: int, published: pd.DataFrame) -> SeriesForecasts:
    """Forecast the watched series of ``panel`` that have a year of weeks and the last one.

    ``names`` has ``condition, site, kind`` for each series. All series are forecast in one batch by the method that did
    best over all of them (series with less than one admission a week by their own); whether it beat the mean is tested
    for each, and corrected for the number of series.
    """
    use = np.flatnonzero(_has_enough(panel) & (names["kind"] != "total").to_numpy())
    if not use.size:
        return SeriesForecasts()
    own = names.iloc[use].reset_index(drop=True)
    ids = tuple(own["kind"] + ": " + own["condition"] + " | " + own["site"])
    values = panel.values[use]
    watched = replace(panel, ids=ids, values=values, flags=tuple(series_flags(one) for one in values))
    made = forecast_panel(watched, horizon_weeks, origins=ORIGINS)
    everywhere = (own["site"] == EVERYWHERE).to_numpy()
    board = score_published(published[published["unique_id"].isin(ids)], watched)
    table = _series_table(made, own)
    kept = kept_forecast(made)
    return SeriesForecasts(
        tables={
            "forecast": Table.from_frame("Admissions expected, and how well they were foreseen so far", table),
            "forecast_weeks": Table.from_frame("Admissions expected over all sites", _weeks_table(made, own)),
            **board.tables(),
        },
        metrics={
            "series_forecast": len(ids),
            "forecast_method": made.method,
            "series_forecast_better_than_mean": int((table["verdict"] == Verdict.BETTER).sum()),
            "forecast_coverage_80_percent": _rounded(made.accuracy.coverage[80], 1),
            "forecast_coverage_95_percent": _rounded(made.accuracy.coverage[95], 1),
            **board.metrics(),
        },
        kept={
            "forecasts": Table.from_frame(
                "Forecast quantiles", kept[kept["unique_id"].isin({ids[i] for i in np.flatnonzero(everywhere)})]
            )
        },
    )


def _has_enough(panel: Panel) -> NDArray[np.bool_]:
    of_no_use = {SeriesFlag.STALE, SeriesFlag.ALL_ZERO, SeriesFlag.GAPPY}
    usable = np.array([not of_no_use & set(flags) for flags in panel.flags], dtype=bool)
    enough: NDArray[np.bool_] = usable & (np.isfinite(panel.values).sum(axis=1) >= FEWEST_WEEKS)
    return enough


def _series_table(made: Forecast, names: pd.DataFrame) -> pd.DataFrame:
    """One row a series: the next week, the last week forecast, and the accuracy; those best foreseen first."""
    test = made.accuracy.test
    adjusted = adjust_benjamini_hochberg(test.p_value)
    verdicts = [
        Verdict.UNTESTED if p != p else Verdict.BETTER if p <= SIGNIFICANCE and gap < 0 else Verdict.NO_BETTER
        for p, gap in zip(adjusted, test.mean_difference, strict=True)
    ]
    last = made.median.shape[1] - 1
    table = pd.DataFrame({"condition": names["condition"], "site": names["site"]})
    for step, name in ((0, "next_week"), (last, f"week_{last + 1}")):
        if step or name == "next_week":
            table[name] = made.median[:, step].round(1)
            table[f"{name}_lower_80"], table[f"{name}_upper_80"] = (made.quantiles[:, step, k].round(1) for k in (1, 5))
    table["skill_against_mean_percent"] = made.accuracy.skill_mean_percent.round(1)
    table["mase"] = made.accuracy.mase.round(3)
    table["inside_80_percent"] = made.accuracy.inside_80_percent.round(1)
    table["p_adjusted"] = adjusted
    table["verdict"] = [str(one) for one in verdicts]
    return table.sort_values("skill_against_mean_percent", ascending=False, kind="stable")


def _weeks_table(made: Forecast, names: pd.DataFrame) -> pd.DataFrame:
    """The weeks ahead of the conditions over all sites, long."""
    table = made.frame()
    table["condition"] = np.repeat(names["condition"].to_numpy(), made.median.shape[1])
    everywhere = np.repeat((names["site"] == EVERYWHERE).to_numpy(), made.median.shape[1])
    shown = table[everywhere].rename(columns={"ds": "week"})[["condition", "week", "median", "lower_80", "upper_80"]]
    return shown.round({"median": 1, "lower_80": 1, "upper_80": 1})


def _rounded(value: float, digits: int) -> float | None:
    return round(float(value), digits) if value == value else None
