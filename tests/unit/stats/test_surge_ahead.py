"""Probabilities of the weeks ahead: calibrated where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.surge_ahead import backtest_surges_ahead, predict_surges_ahead

BOUND = 2.0
TAIL = 0.02275


def persistent(series: int, weeks: int, rho: float, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    scores = np.empty((series, weeks))
    scores[:, 0] = rng.standard_normal(series)
    for week in range(1, weeks):
        scores[:, week] = rho * scores[:, week - 1] + np.sqrt(1 - rho**2) * rng.standard_normal(series)
    return scores


def test_independent_weeks_give_the_tail_itself() -> None:
    ahead = predict_surges_ahead(persistent(60, 400, 0.0, 1), np.full((60, 4), BOUND))
    assert ahead.each_week.mean(axis=0) == pytest.approx(np.full(4, TAIL), rel=0.15)
    assert ahead.any_week.mean() == pytest.approx(1 - (1 - TAIL) ** 4, rel=0.15)


def test_without_history_the_distributions_speak() -> None:
    ahead = predict_surges_ahead(np.full((1, 10), np.nan), np.full((1, 4), BOUND), paths=200_000)
    assert ahead.each_week == pytest.approx(np.full((1, 4), TAIL), rel=0.05)
    assert ahead.any_week[0] == pytest.approx(1 - (1 - TAIL) ** 4, rel=0.05)


def test_paths_are_precise_enough_for_rare_events() -> None:
    """The default number of paths gives a tail of half a per cent to a fifth of itself, without bias."""
    bounds = np.full((1, 4), 2.5758)
    shares = [predict_surges_ahead([[np.nan]], bounds, seed=seed).each_week for seed in range(20)]
    assert np.abs(np.array(shares) / 0.005 - 1).max() < 0.2
    assert np.mean(shares) == pytest.approx(0.005, rel=0.02)


def test_after_a_high_week_a_persistent_series_is_more_likely_to_exceed() -> None:
    scores = persistent(1, 300, 0.8, 2)
    high, low = scores.copy(), scores.copy()
    high[0, -1], low[0, -1] = 2.5, -1.0
    bounds = np.full((1, 4), BOUND)
    after_high, after_low = predict_surges_ahead(high, bounds), predict_surges_ahead(low, bounds)
    assert after_high.any_week[0] > 5 * after_low.any_week[0]
    assert (np.diff(after_high.each_week[0]) < 0).all()  # the excitement wears off
    assert after_high.any_week[0] < after_high.each_week[0].sum()  # jointly, not as if independent


def test_backtest_is_calibrated_and_beats_a_constant() -> None:
    """Persistent truth: what is said with 20 % comes about 20 % of the time, and the Brier score is better."""
    scores = persistent(60, 260, 0.7, 3)
    backtest = backtest_surges_ahead(scores, np.full_like(scores, BOUND), horizon_weeks=4, alpha=TAIL)
    assert backtest.origins == 60 * (260 - 4 - 26 + 1)
    assert backtest.brier_any < 0.97 * backtest.constant_brier_any
    assert backtest.said_any.mean() == pytest.approx(backtest.came_any.mean(), rel=0.12)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.6)):
        part = (backtest.said_any >= low) & (backtest.said_any < high)
        assert part.sum() > 200
        said, came = backtest.said_any[part].mean(), backtest.came_any[part].mean()
        assert abs(said - came) < 0.01 + 0.3 * said


def test_backtest_on_noise_is_no_worse_than_a_constant() -> None:
    scores = persistent(40, 260, 0.0, 4)
    backtest = backtest_surges_ahead(scores, np.full_like(scores, BOUND), horizon_weeks=2, alpha=TAIL)
    assert backtest.brier_any < 1.02 * backtest.constant_brier_any


def test_odds_are_scaled_by_how_often_surges_came() -> None:
    """Surges three times as frequent as the scores say: later origins say so, and so does what is said now."""
    rng = np.random.default_rng(9)
    scores = rng.standard_normal((60, 200))
    scores[rng.random(scores.shape) < 2 * TAIL] = 2.6
    bounds = np.full_like(scores, BOUND)
    backtest = backtest_surges_ahead(scores, bounds, horizon_weeks=1, alpha=TAIL)
    assert 1.5 < backtest.odds_factor < 3.5
    late = len(backtest.said_any) // 2
    assert backtest.said_any[late:].mean() == pytest.approx(backtest.came_any[late:].mean(), rel=0.15)
    plain = predict_surges_ahead(scores, bounds[:, :1]).any_week
    scaled = predict_surges_ahead(scores, bounds[:, :1], odds_factor=backtest.odds_factor).any_week
    assert (scaled > plain).all()


def test_same_seed_same_answer() -> None:
    scores, bounds = persistent(2, 60, 0.5, 5), np.full((2, 3), 1.5)
    first, again = predict_surges_ahead(scores, bounds, seed=7), predict_surges_ahead(scores, bounds, seed=7)
    np.testing.assert_array_equal(first.each_week, again.each_week)
    other = predict_surges_ahead(scores, bounds, seed=8)
    assert (first.each_week != other.each_week).any()


def test_an_old_last_score_tells_less() -> None:
    scores = persistent(1, 200, 0.8, 6)
    scores[0, -1] = 3.0
    stale = np.concatenate([scores, np.full((1, 12), np.nan)], axis=1)
    bounds = np.full((1, 1), BOUND)
    fresh = predict_surges_ahead(scores, bounds, paths=50_000).any_week[0]
    old = predict_surges_ahead(stale, bounds, paths=50_000).any_week[0]
    assert old < fresh / 2


def test_unknown_thresholds_and_no_origins() -> None:
    ahead = predict_surges_ahead(np.zeros((1, 5)), [[np.nan, 2.0]])
    assert np.isnan(ahead.each_week[0, 0])
    assert np.isnan(ahead.any_week[0])
    assert backtest_surges_ahead(np.zeros((1, 5)), np.ones((1, 5)), horizon_weeks=4, alpha=0.01).origins == 0


@pytest.mark.parametrize("horizon", [0, 5, 500])
def test_bad_horizon(horizon: int) -> None:
    with pytest.raises(ParameterError):
        predict_surges_ahead(np.zeros((1, 5)), np.zeros((1, horizon)))
    with pytest.raises(ParameterError):
        backtest_surges_ahead(np.zeros((1, 5)), np.zeros((1, 5)), horizon_weeks=horizon, alpha=0.01)


def test_bad_scores() -> None:
    with pytest.raises(SeriesError):
        predict_surges_ahead(np.zeros((2, 5)), np.zeros((1, 2)))
    with pytest.raises(SeriesError):
        predict_surges_ahead([[np.inf]], [[1.0]])
    with pytest.raises(ParameterError):
        predict_surges_ahead([[0.0]], [[1.0]], paths=1)
    with pytest.raises(ParameterError):
        predict_surges_ahead([[0.0]], [[1.0]], odds_factor=0.0)
    with pytest.raises(SeriesError):
        predict_surges_ahead([[0.0]], [[1.0]], score_variances=[[-1.0]])
