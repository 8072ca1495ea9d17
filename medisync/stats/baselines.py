"""The forecasts any method has to beat, batched over series.

Each takes ``values`` (n, t), NaN where missing, and gives point forecasts (n, horizon); a series without any
observation gets NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medisync.stats.series import checked_horizon

Floats = NDArray[np.float64]


def mean_forecast(values: Floats, season: int, horizon: int) -> Floats:  # noqa: ARG001 - one signature for all methods
    """The mean of the whole history, for every future period."""
    horizon = checked_horizon(horizon)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return np.repeat(mean[:, None], horizon, axis=1)


def last_value_forecast(values: Floats, season: int, horizon: int) -> Floats:  # noqa: ARG001
    """The last observed value, for every future period."""
    horizon = checked_horizon(horizon)
    return np.repeat(last_known(values)[:, None], horizon, axis=1)


def seasonal_naive_forecast(values: Floats, season: int, horizon: int) -> Floats:
    """The last observed value of the same season position; where there is none, the last observed value."""
    horizon = checked_horizon(horizon)
    n, length = values.shape
    cycles = -(-length // season)
    padded = np.full((n, cycles * season), np.nan)
    padded[:, cycles * season - length :] = values
    # Column j of each cycle is j + 1 periods after the end of the cycle before, as the forecast's column j is.
    by_position = padded.reshape(n, cycles, season)
    latest = np.stack([last_known(by_position[:, :, j]) for j in range(season)], axis=1)
    forecast = latest[:, np.arange(horizon) % season]
    return np.where(np.isfinite(forecast), forecast, last_known(values)[:, None])


def last_known(values: Floats) -> Floats:
    """The last observed value (n,) of each row of ``values`` (n, t), NaN if there is none."""
    known = np.isfinite(values)
    column = values.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    latest: Floats = values[np.arange(len(values)), column]
    return latest
