"""Orders found for series whose order is known; stored orders used without a search."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from medisync.errors import SeriesError
from medisync.stats.forecasting import forecast_panel
from medisync.stats.sarima import restored_order, sarima_forecasts, search_order, search_orders
from medisync.stats.series import panel_of


def autoregressive(length: int, seed: int = 1) -> np.ndarray:
    """The square of an AR(1) process round 10 with coefficient 0.8."""
    rng = np.random.default_rng(seed)
    root = np.empty(length)
    root[0] = 10
    for t in range(1, length):
        root[t] = 10 + 0.8 * (root[t - 1] - 10) + rng.normal(0, 0.6)
    return root**2


def seasonal_walk(length: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    season = 2.5 * np.sin(2 * np.pi * np.arange(length) / 12)
    return (10 + season + np.cumsum(rng.normal(0, 0.15, length)) + rng.normal(0, 0.2, length)) ** 2


def test_a_level_that_returns_needs_no_difference_and_has_memory():
    found = search_order(autoregressive(200), 1, most_models=10)
    assert found.order[1] == 0
    assert found.order[0] + found.order[2] >= 1
    assert found.converged
    assert found.drift
    assert 4 <= found.models <= 10


def test_a_strong_season_is_differenced():
    found = search_order(seasonal_walk(96), 12, most_models=6)
    assert found.seasonal[1] == 1
    assert found.season == 12
    assert found.models <= 6


def test_weeks_get_harmonics_and_no_seasonal_lags():
    values = (10 + 3 * np.sin(2 * np.pi * np.arange(160) / 52)) ** 2 + np.random.default_rng(3).normal(0, 5, 160)
    found = search_order(np.maximum(values, 0), 52, most_models=5)
    assert (found.season, found.harmonics, found.period) == (0, 2, 52)


def test_a_stored_order_forecasts_every_origin_without_looking_ahead():
    values = seasonal_walk(96)
    order = search_order(values[:84], 12, most_models=4)
    origins = np.array([72, 78, 84])
    made = sarima_forecasts(values, order, 6, origins)
    changed = values.copy()
    changed[78:] = 1.0
    again = sarima_forecasts(changed, order, 6, origins)
    assert made[:2] == pytest.approx(again[:2])
    level = np.abs(values[:84].mean() - values[84:96]).mean()
    assert np.abs(sarima_forecasts(values[:84], order, 12, np.array([84]))[0] - values[84:]).mean() < 0.3 * level


def test_gaps_are_filtered_over():
    values = autoregressive(150)
    values[40:60] = np.nan
    order = search_order(values, 1, most_models=4)
    assert np.isfinite(sarima_forecasts(values, order, 5, np.array([150]))).all()


def test_constant_and_short_series():
    assert search_order(np.full(60, 5.0), 12).order == (0, 0, 0)
    assert not search_order(np.full(60, 5.0), 12).converged
    with pytest.raises(SeriesError, match="24 observations"):
        search_order(np.ones(10), 12)
    with pytest.raises(SeriesError, match="at least 0"):
        search_order(-np.ones(60), 12)


def test_orders_of_a_panel_survive_json():
    panel = panel_of(
        np.stack([autoregressive(80), np.full(80, np.nan), np.full(80, 3.0)]), "monthly", ids=["a", "b", "c"]
    )
    found = search_orders(panel, most_models=4)
    assert list(found) == ["a"]
    assert restored_order(json.loads(json.dumps(asdict(found["a"])))) == found["a"]


def test_a_stored_order_becomes_a_candidate():
    values = autoregressive(140)
    panel = panel_of(np.stack([values, autoregressive(140, 5)]), "monthly", ids=["a", "b"])
    order = search_order(values, 1, most_models=4)
    made = forecast_panel(panel, 3, orders={"a": order}, origins=12)
    assert "sarima" in made.accuracies
    own = made.past.forecasts["sarima"]
    assert not np.allclose(own[0], made.past.forecasts["combination"][0])
    assert own[1] == pytest.approx(made.past.forecasts["combination"][1])  # no order stored for b
