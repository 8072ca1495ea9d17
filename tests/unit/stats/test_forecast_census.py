"""The census against queueing theory, the survival curve against a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.census import daily_admission_paths, expected_census, stay_survival


def geometric_survival(keep: float, nights: int = 200):
    """Stays of which a share ``keep`` goes on each night, all ended, as exact weights."""
    length = np.arange(nights)
    weights = np.round(1e9 * (1 - keep) * keep**length).astype(int)
    return stay_survival(length.tolist(), [True] * nights, weights.tolist())


def test_survival_of_a_small_example_by_hand():
    """Stays of 1, 2, 2+, 3 nights (+ goes on): after 1 night 3/4 are in, after 2 of those at risk 2/3, after 3 none."""
    curve = stay_survival([1, 2, 2, 3], [True, True, False, True])
    assert curve.still_in == pytest.approx([1, 3 / 4, 3 / 4 * 2 / 3, 0])
    assert (curve.stays, curve.ended) == (4, 3)


def test_stays_that_go_on_do_not_bias_the_mean():
    rng = np.random.default_rng(1)
    nights = rng.geometric(1 / 6, 40_000) - 1
    seen = rng.integers(0, 40, 40_000)
    curve = stay_survival(np.minimum(nights, seen).tolist(), (nights <= seen).tolist())
    assert curve.mean_nights == pytest.approx(5, rel=0.03)


def test_census_settles_at_admissions_times_mean_stay():
    """Little's law, and Poisson spread for Poisson admissions (an M/G/infinity queue)."""
    rng = np.random.default_rng(2)
    survival = geometric_survival(0.8)
    census = expected_census(rng.poisson(30, (2000, 60)), survival, [], rng, beds=135)
    mean = 30 * survival.mean_nights
    assert survival.mean_nights == pytest.approx(4, rel=1e-3)
    assert census.mean[-10:] == pytest.approx(np.full(10, mean), rel=0.02)
    assert census.exceeding[-10:].mean() == pytest.approx(stats.poisson.sf(135, mean), abs=0.02)
    assert census.exceeding.max() <= census.exceeding_any <= 1
    assert census.quantiles[-1, 3] == pytest.approx(mean, abs=2)
    assert (np.diff(census.quantiles, axis=1) >= 0).all()


def test_patients_in_now_leave_at_the_rate_their_nights_so_far_suggest():
    rng = np.random.default_rng(3)
    survival = geometric_survival(0.7)
    census = expected_census(np.zeros((4000, 5), dtype=int), survival, [0, 12], rng, in_now=[60, 40])
    assert census.mean == pytest.approx(100 * 0.7 ** np.arange(1, 6), rel=0.03)


def test_stays_beyond_the_longest_seen_still_end():
    rng = np.random.default_rng(4)
    survival = stay_survival([0, 1, 2, 3, 3], [True, True, True, True, False])
    census = expected_census(np.zeros((500, 30), dtype=int), survival, [10], rng, in_now=[50])
    assert (np.diff(census.mean) <= 0).all()
    assert census.mean[-1] < 1


def test_everyone_leaving_the_same_day_occupies_nothing():
    survival = stay_survival([0, 0], [True, True])
    census = expected_census(np.full((10, 4), 7), survival, [], np.random.default_rng(5), beds=0)
    assert census.mean.tolist() == [0, 0, 0, 0]
    assert census.exceeding_any == 0


def test_weeks_are_spread_over_their_days_and_keep_their_sum():
    rng = np.random.default_rng(6)
    paths = rng.uniform(60, 80, (3000, 2))
    daily = daily_admission_paths(paths, [7, 3], rng)
    assert daily.shape == (3000, 10)
    assert np.abs(daily[:, :7].sum(axis=1) - paths[:, 0]).max() < 1
    assert daily.mean(axis=0) == pytest.approx([10] * 7 + [70 / 3] * 3, rel=0.03)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: stay_survival([], []), SeriesError),
        (lambda: stay_survival([3], [False]), SeriesError),
        (lambda: stay_survival([-1], [True]), SeriesError),
        (lambda: stay_survival([1, 2], [True]), SeriesError),
        (lambda: daily_admission_paths(np.ones((2, 2)), [7], np.random.default_rng(1)), ParameterError),
    ],
)
def test_bad_input(call, error):
    with pytest.raises(error):
        call()


@pytest.mark.parametrize(
    ("admissions", "nights", "beds", "error"),
    [
        (np.full((2, 3), -1), [1], 5, SeriesError),
        (np.ones((2, 3), dtype=int), [-1], 5, SeriesError),
        (np.ones((2, 0), dtype=int), [1], 5, SeriesError),
        (np.ones((2, 3), dtype=int), [1], -5, ParameterError),
    ],
)
def test_bad_census_input(admissions, nights, beds, error):
    with pytest.raises(error):
        expected_census(admissions, geometric_survival(0.5, 20), nights, np.random.default_rng(1), beds=beds)
