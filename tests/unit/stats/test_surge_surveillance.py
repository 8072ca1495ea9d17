"""Known truth: planted outbreaks are found, quiet series stay quiet as often as promised."""

from __future__ import annotations

import numpy as np
import pytest

from medisync.errors import ParameterError, SeriesError
from medisync.stats.farrington import detect_farrington
from medisync.stats.outbreak_simulation import (
    JUDGED_WEEKS,
    SCENARIOS,
    WEEKS,
    simulate_counts,
    simulate_outbreak,
    simulate_scenario,
)
from medisync.stats.surveillance import Comparison, WeekState, judge_surges

LAST = np.arange(WEEKS - JUDGED_WEEKS, WEEKS)


def test_false_alarm_rate_over_noufailys_scenarios() -> None:
    """0.3 to 0.6 % at alpha 0.5 %, and no scenario above 2 % plus its own sampling error."""
    rates = []
    for number, scenario in enumerate(SCENARIOS):
        quiet = simulate_scenario(
            scenario,
            series=12,
            rng=np.random.default_rng([31, number]),
            past_outbreaks=False,
            current_outbreak=False,
        )
        rates.append(float((detect_farrington(quiet.counts, weeks=LAST).p_value <= 0.005).mean()))
    assert len(rates) == 42
    assert 0.003 <= np.mean(rates) <= 0.006
    assert max(rates) <= 0.02 + 3 * np.sqrt(0.02 / (12 * JUDGED_WEEKS))


def test_one_and_a_half_times_the_mean_would_cry_wolf() -> None:
    """Why the simple rule is not used: in the same scenarios it flags a quarter of the quiet weeks."""
    flagged = []
    for number, scenario in enumerate(SCENARIOS):
        counts = simulate_counts(scenario.mean(), scenario.dispersion, series=10, rng=np.random.default_rng(number))
        flagged.append((counts[:, LAST] > 1.5 * counts[:, : LAST[0]].mean(axis=1, keepdims=True)).mean())
    assert np.mean(flagged) > 0.2
    assert max(flagged) > 0.9


def test_planted_outbreaks_are_found_more_often_the_larger_they_are() -> None:
    """Noufaily's outbreaks: of ten standard deviations nine in ten are found, of nothing next to none."""
    rng = np.random.default_rng(12)
    scenario = SCENARIOS[13]  # Poisson counts around five a week with a season
    mean = scenario.mean()
    found = {}
    for size in (0.0, 4.0, 10.0):
        counts = simulate_counts(mean, scenario.dispersion, series=60, rng=rng)
        start = WEEKS - 3
        extra = [simulate_outbreak(np.sqrt(mean[start]), size, start, WEEKS, rng=rng) for _ in range(60)]
        result = detect_farrington(counts + np.array(extra), weeks=[WEEKS - 3, WEEKS - 2])
        found[size] = (result.p_value <= 0.005).any(axis=1).mean()
    assert found[0.0] <= 0.1
    assert found[0.0] < found[4.0] < found[10.0]
    assert found[10.0] >= 0.9


def test_confirmed_surge_among_many_series() -> None:
    """One outbreak among thirty series is the one surge; the others are at most above their own threshold."""
    rng = np.random.default_rng(20)
    counts = rng.poisson(15.0, (30, 320)).astype(float)
    counts[7, -1] = 45.0
    judgement = judge_surges(counts)
    assert judgement.state[7, 0] == WeekState.SURGE
    assert (judgement.state[:, 0] == WeekState.SURGE).sum() == 1
    assert (judgement.comparison == Comparison.YEARS).all()


def test_states_follow_from_p_values_and_thresholds() -> None:
    """Above means both: p-value at most alpha, and count over the threshold."""
    counts = np.random.default_rng(22).negative_binomial(4, 0.4, (40, 330)).astype(float)
    judgement = judge_surges(counts, last_weeks=30, alpha=0.05, false_discovery_rate=0.05)
    above = judgement.p_value <= 0.05
    np.testing.assert_array_equal(above, judgement.observed > judgement.threshold)
    np.testing.assert_array_equal(above, judgement.state != WeekState.QUIET)
    confirmed = above & (judgement.adjusted_p_value <= 0.05)
    np.testing.assert_array_equal(confirmed, judgement.state == WeekState.SURGE)


def test_false_alarms_a_year_are_what_is_told() -> None:
    """Quiet weeks exceed their thresholds as often as the sum of what each said."""
    counts = np.random.default_rng(23).poisson(8.0, (60, 360)).astype(float)
    judgement = judge_surges(counts, last_weeks=52, alpha=0.02)
    seen = (judgement.state != WeekState.QUIET).sum()
    told = judgement.false_alarms_a_year.sum() / 52.1775
    assert abs(seen - told) < 4 * np.sqrt(told)


def test_less_history_means_fewer_years_then_weeks_then_nothing() -> None:
    rng = np.random.default_rng(24)
    counts = rng.poisson(20.0, (4, 300)).astype(float)
    counts[1, : 300 - 120] = np.nan  # two years
    counts[2, : 300 - 40] = np.nan  # weeks
    counts[3, : 300 - 5] = np.nan  # nothing
    judgement = judge_surges(counts)
    assert [str(one) for one in judgement.comparison[:, 0]] == [
        "past years",
        "past years",
        "seven weeks",
        "nothing",
    ]
    assert judgement.state[3, 0] == WeekState.NOT_JUDGED
    assert np.isnan(judgement.p_value[3, 0])


def test_thresholds_ahead_are_those_of_the_weeks_to_come() -> None:
    """What is said about a week in advance is what is said when it has come."""
    counts = np.random.default_rng(25).poisson(20.0, (3, 304)).astype(float)
    ahead = judge_surges(counts[:, :300], weeks_ahead=4)
    later = judge_surges(counts, last_weeks=4)
    np.testing.assert_allclose(ahead.threshold[:, 1:], later.threshold)
    assert np.isnan(ahead.p_value[:, 1:]).all()


@pytest.mark.parametrize(("mean", "dispersion"), [(0.6, 1.0), (4.0, 2.0), (40.0, 1.5)])
def test_scores_of_quiet_weeks_are_standard_normal(mean: float, dispersion: float) -> None:
    """Expectation 0, and second moment 1 once the coarseness of whole numbers is added."""
    rng = np.random.default_rng(27)
    counts = simulate_counts(np.full(330, mean), dispersion, series=60, rng=rng)
    score, variance = judge_surges(counts, last_weeks=60).scores()
    assert score.mean() == pytest.approx(0.0, abs=0.06)
    assert (score**2 + variance).mean() == pytest.approx(1.0, abs=0.08)


def test_families_are_corrected_apart() -> None:
    counts = np.random.default_rng(26).poisson(20.0, (4, 300)).astype(float)
    apart = judge_surges(counts, families=["a", "b", "c", "d"])
    np.testing.assert_allclose(apart.adjusted_p_value, apart.p_value)


def test_few_cases_raise_no_alarm() -> None:
    counts = np.zeros((1, 300))
    counts[0, ::60] = 1.0
    counts[0, -1] = 3.0
    assert judge_surges(counts).state[0, 0] == WeekState.QUIET
    assert judge_surges(counts, least_cases=3).state[0, 0] == WeekState.SURGE


@pytest.mark.parametrize(
    "bad",
    [
        {"last_weeks": 0},
        {"weeks_ahead": -1},
        {"weeks_ahead": 500},
        {"alpha": 0.0},
        {"false_discovery_rate": 1.0},
        {"minimum_years": 9},
    ],
)
def test_bad_parameters(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        judge_surges(np.ones((1, 300)), **bad)  # type: ignore[arg-type]


def test_bad_series() -> None:
    for counts in ([[-1.0]], [[np.inf]], np.zeros((2, 0)), [["x"]]):
        with pytest.raises(SeriesError):
            judge_surges(counts)  # type: ignore[arg-type]
    with pytest.raises(SeriesError):
        judge_surges(np.ones((2, 20)), families=["a"])
    with pytest.raises(SeriesError):
        judge_surges(np.ones((2, 20)), first_days=["2020-01-06"])
