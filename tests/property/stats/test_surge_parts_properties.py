"""The parts of the surge detector driven on their own: fits, backtests and the simulation they are judged by."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medisync.errors import MediSyncError, ParameterError, SeriesError
from medisync.stats.ears import weeks_needed
from medisync.stats.farrington import checked_counts, quiet_distribution
from medisync.stats.outbreak_simulation import SCENARIOS, WEEKS, simulate_counts, simulate_outbreak, simulate_scenario
from medisync.stats.quasipoisson import SeasonalDesign, fit_quasipoisson
from medisync.stats.reweighting import undo_reweighting
from medisync.stats.surge_ahead import backtest_surges_ahead, predict_surges_ahead

Floats = NDArray[np.float64]
FEW = settings(max_examples=20, deadline=None)

scores = st.one_of(st.floats(-6, 6), st.just(np.nan))


@FEW
@given(
    st.sampled_from([1, 2, 27, 40]).flatmap(lambda weeks: arrays(float, (2, weeks), elements=scores)),
    st.integers(-1, 6),
    st.floats(0.5, 3),
)
def test_surges_ahead_are_probabilities_and_their_scores_too(past: Floats, horizon: int, bound: float) -> None:
    bounds = np.full_like(past, bound)
    if not 1 <= horizon <= 4:
        with pytest.raises(ParameterError, match="horizon"):
            backtest_surges_ahead(past, bounds, horizon_weeks=horizon, alpha=0.01)
        with pytest.raises(ParameterError, match="horizon"):
            predict_surges_ahead(past, np.full((2, max(horizon, 0)), bound))
        return
    back = backtest_surges_ahead(past, bounds, horizon_weeks=horizon, alpha=0.01)
    assert back.odds_factor > 0
    if back.origins:
        assert 0 <= back.brier_any <= 1
        assert set(back.came_any) <= {0.0, 1.0}
    else:
        assert np.isnan(back.brier_any)
    ahead = predict_surges_ahead(past, np.full((2, horizon), bound), odds_factor=back.odds_factor)
    assert ((ahead.each_week >= 0) & (ahead.each_week <= 1)).all()
    assert (ahead.any_week <= ahead.each_week.sum(axis=1) + 1e-9 + (back.odds_factor != 1)).all()


@FEW
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))
def test_shapes_that_do_not_fit_are_refused(rows: int, other: int, weeks: int) -> None:
    if rows == other:
        return
    with pytest.raises(SeriesError):
        predict_surges_ahead(np.zeros((rows, weeks)), np.ones((other, 2)))
    with pytest.raises(SeriesError):
        backtest_surges_ahead(np.zeros((rows, weeks)), np.ones((rows, weeks + 1)), horizon_weeks=1, alpha=0.1)
    with pytest.raises(SeriesError):
        predict_surges_ahead(np.zeros((rows, weeks)), np.ones((rows, 2)), score_variances=np.zeros((other, weeks)))


@FEW
@given(
    st.integers(1, 3).flatmap(lambda m: arrays(float, (m, 40), elements=st.integers(0, 200).map(float))),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_a_fit_is_finite_whatever_the_counts(counts: Floats, trend: bool, seed: int) -> None:
    weights = (np.random.default_rng(seed).random(counts.shape) < 0.8).astype(float)
    weights[:, :6] = 1.0
    levels = np.arange(40) % 4
    design = SeasonalDesign(time=np.arange(-40.0, 0.0), level=levels, levels=4)
    fit = fit_quasipoisson(counts, weights, design, trend=trend)
    assert (fit.dispersion >= 1).all()
    assert np.isfinite(fit.fitted).all()
    assert (fit.fitted >= 0).all()
    assert np.isfinite(fit.mean_now).all()


@FEW
@given(arrays(float, 6, elements=st.floats(0, 1e6)), arrays(float, 6, elements=st.floats(0, 1e4)))
def test_what_reweighting_took_is_given_back_in_reason(mean: Floats, dispersion: Floats) -> None:
    for factor in undo_reweighting(mean, dispersion, 2.58):
        assert ((factor >= 1) & (factor < 4)).all()


@FEW
@given(st.floats(-1, 20), st.integers(-1, 3), st.sampled_from(range(len(SCENARIOS))))
def test_simulated_counts_are_counts_or_refused(dispersion: float, series: int, number: int) -> None:
    rng = np.random.default_rng(1)
    mean = SCENARIOS[number].mean()
    with contextlib.suppress(MediSyncError):
        counts = simulate_counts(mean, dispersion, series=series, rng=rng)
        assert counts.shape == (series, WEEKS)
        assert (counts >= 0).all()
        assert dispersion >= 1
    made = simulate_scenario(SCENARIOS[number], series=1, rng=rng, past_outbreaks=True, current_outbreak=True)
    assert (made.counts >= made.outbreak).all()
    assert checked_counts(made.counts).shape == (1, WEEKS)


@FEW
@given(st.floats(0, 50), st.floats(0, 10), st.integers(0, 59), st.integers(60, 80))
def test_an_outbreak_begins_where_it_should(deviation: float, size: float, start: int, length: int) -> None:
    extra = simulate_outbreak(deviation, size, start, length, rng=np.random.default_rng(2))
    assert extra.shape == (length,)
    assert not extra[:start].any()
    assert (extra >= 0).all()


def test_weeks_needed() -> None:
    assert {method: weeks_needed(method) for method in ("C1", "C2", "C3")} == {"C1": 7, "C2": 9, "C3": 11}  # type: ignore[arg-type]


@FEW
@given(st.just(0.0) | st.floats(1e-8, 1e5), st.floats(1, 100), st.floats(0, 1e4))
def test_an_uncertain_mean_never_narrows_a_quiet_week(mean: float, dispersion: float, variance: float) -> None:
    quiet_mean, quiet_dispersion = quiet_distribution(mean, dispersion, variance)
    assert quiet_mean >= mean
    assert quiet_dispersion >= dispersion
