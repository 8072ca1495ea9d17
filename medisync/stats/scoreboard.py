"""Yesterday's forecasts against today's truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medisync.errors import SeriesError
from medisync.stats.forecasting import quantile_names
from medisync.stats.scores import LEVELS, checked_levels, weighted_interval_score
from medisync.stats.series import checked_days


def score_forecasts(forecasts: pd.DataFrame, truth: pd.DataFrame, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """Score every stored forecast whose truth has arrived.

    ``forecasts`` has ``unique_id, ds, step`` and the quantile columns (``lower_95`` ... ``median`` ... ``upper_95``),
    and whatever else came with them (a run, the day they were made), which is kept; ``truth`` is the long frame
    ``unique_id, ds, y`` of complete periods. Gives one row per forecast with a truth: the forecast's columns, ``y``,
    ``absolute_error`` and ``weighted_interval_score`` in events, ``inside_50``, ``inside_80``, ``inside_95``.

    Raises :class:`~medisync.errors.SeriesError` if columns are missing, quantiles cross, or a period has two truths.
    """
    names = list(quantile_names(levels))
    _require(forecasts, ["unique_id", "ds", "step", *names], "forecasts")
    _require(truth, ["unique_id", "ds", "y"], "truth")
    made, seen = _keyed(forecasts), _keyed(truth)[["unique_id", "ds", "y"]].dropna(subset=["y"])
    if seen.duplicated(["unique_id", "ds"]).any():
        raise SeriesError("The truth has two values for one period of a series.")
    scored = made.drop(columns="y", errors="ignore").merge(seen, on=["unique_id", "ds"], how="inner")
    quantiles = scored[names].to_numpy(dtype=float)
    scored = scored[np.isfinite(quantiles).all(axis=1)].reset_index(drop=True)
    quantiles, y = scored[names].to_numpy(dtype=float), scored["y"].to_numpy(dtype=float)
    if (np.diff(quantiles, axis=1) < 0).any():
        raise SeriesError("The quantiles of a stored forecast cross.")
    given = checked_levels(levels)
    result: pd.DataFrame = scored.copy()
    result["absolute_error"] = np.abs(y - scored["median"].to_numpy(dtype=float))
    result["weighted_interval_score"] = weighted_interval_score(quantiles, y, levels)
    for i in range(len(given) // 2):
        width = names[i].removeprefix("lower_")
        result[f"inside_{width}"] = (y >= quantiles[:, i]) & (y <= quantiles[:, -1 - i])
    return result


def scoreboard(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores by ``step``: ``forecasts``, ``mean_absolute_error``, ``weighted_interval_score``, ``inside_*_percent``.

    ``scored`` comes from :func:`score_forecasts`; an empty one gives an empty board.
    """
    _require(scored, ["step", "absolute_error", "weighted_interval_score"], "scored forecasts")
    inside = [name for name in scored.columns if str(name).startswith("inside_")]
    groups = scored.groupby("step", sort=True)
    board = pd.DataFrame(
        {
            "forecasts": groups.size(),
            "mean_absolute_error": groups["absolute_error"].mean(),
            "weighted_interval_score": groups["weighted_interval_score"].mean(),
            **{f"{name}_percent": 100 * groups[name].mean() for name in inside},
        }
    )
    return board.reset_index()


def _require(frame: pd.DataFrame, names: list[str], what: str) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise SeriesError(f"Columns are missing from the {what}: {', '.join(missing)}.")


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy whose keys can be matched: ids as text, days as dates."""
    return frame.assign(unique_id=frame["unique_id"].astype(str), ds=checked_days(frame["ds"]))
