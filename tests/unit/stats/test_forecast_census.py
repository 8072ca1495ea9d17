"""The census against queueing theory, the survival curve against a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medisync.errors import ParameterError, SeriesError
from medisync.stats.census import daily_admission_paths, expected_census, stay_survival, stretched


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


def test_a_stretched_curve_has_a_stretched_mean_and_is_a_curve():
    still_in = geometric_survival(0.8).still_in
    for factor in (0.3, 1.0, 1.25, 3.0):
        longer = stretched(still_in, factor)
        assert longer.sum() == pytest.approx(factor * still_in.sum())
        assert (np.diff(longer) <= 1e-12).all()
    assert stretched(still_in, 1.0) == pytest.approx(still_in)
    assert stretched(np.array([1.0, 1.0]), 1.25) == pytest.approx([1, 1, 0.5])  # 2 nights: 2 or 3, evenly
    for factor in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError):
            stretched(still_in, factor)


def test_longer_stays_fill_beds_as_little_s_law_says_and_present_patients_stay_on():
    rng = np.random.default_rng(5)
    survival = geometric_survival(0.8)
    longer = expected_census(rng.poisson(30, (1500, 90)), survival, [], rng, stay_factor=1.5)
    assert longer.mean[-10:] == pytest.approx(np.full(10, 1.5 * 30 * survival.mean_nights), rel=0.02)
    nobody = np.zeros((2000, 60), dtype=int)
    left = [expected_census(nobody, survival, [3], rng, in_now=[100], stay_factor=f).mean.sum() for f in (0.5, 1, 2)]
    assert left == pytest.approx([200, 400, 800], rel=0.03)  # nights to come: 100 patients, 4 each, times the factor
    with pytest.raises(ParameterError):
        expected_census(nobody, survival, [], rng, stay_factor=0.0)
