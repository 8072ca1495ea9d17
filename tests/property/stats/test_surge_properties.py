"""Any input gives a clear error or a sensible, flagged answer: the surge functions driven with odd series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.ears import Method, detect_ears
from medisync.stats.farrington import CLASSIC, NOUFAILY, detect_farrington
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.predictive import upper_quantile, upper_tail
from medisync.stats.surge_ahead import predict_surges_ahead
from medisync.stats.surveillance import WeekState, judge_surges

Floats = NDArray[np.float64]

few = settings(max_examples=25, deadline=None)

LENGTHS = st.sampled_from([1, 2, 9, 60, 130, 263, 264, 290])
HABITS = st.sampled_from(["zeros", "constant", "poisson", "gappy", "one case", "huge", "bursts", "all missing"])


@st.composite
def odd_series(draw: st.DrawFn) -> Floats:
    """One to three series: all zero, constant, with gaps, with one case, of a billion, with bursts, all missing."""
    length = draw(LENGTHS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for habit in draw(st.lists(HABITS, min_size=1, max_size=3)):
        row = rng.poisson(draw(st.sampled_from([0.1, 2.0, 50.0])), length).astype(float)
        if habit == "zeros":
            row[:] = 0
        elif habit == "constant":
            row[:] = 7
        elif habit == "gappy":
            row[rng.random(length) < 0.5] = np.nan
        elif habit == "one case":
            row[:] = 0
            row[rng.integers(length)] = 1
        elif habit == "huge":
            row = np.floor(row * 1e9 + rng.integers(0, 10**8, length))
        elif habit == "bursts":
            row[rng.random(length) < 0.05] += 500
        elif habit == "all missing":
            row[:] = np.nan
        rows.append(row)
    return np.array(rows)


@few
@given(odd_series(), st.sampled_from([NOUFAILY, CLASSIC]))
def test_farrington_answers_sensibly(counts: Floats, how: object) -> None:
    result = detect_farrington(counts, settings=how)  # type: ignore[arg-type]
    judged = result.judged
    assert ((result.p_value[judged] >= 0) & (result.p_value[judged] <= 1)).all()
    assert (result.dispersion[judged] >= 1).all()
    assert (result.expected[judged] >= 0).all()
    assert np.isfinite(result.threshold[judged]).all()
    assert not result.alarm[np.isnan(result.observed)].any()


@few
@given(odd_series(), st.sampled_from(["C1", "C2", "C3"]))
def test_ears_answers_sensibly(counts: Floats, method: Method) -> None:
    result = detect_ears(counts, method=method)
    judged = ~np.isnan(result.threshold)
    assert (result.threshold[judged] >= 0).all()
    known = ~np.isnan(result.p_value)
    assert ((result.p_value[known] >= 0) & (result.p_value[known] <= 1)).all()
    assert not result.alarm[~judged].any()


@few
@given(odd_series(), st.integers(1, 12), st.integers(0, 4))
def test_judgement_answers_sensibly(counts: Floats, last_weeks: int, weeks_ahead: int) -> None:
    judgement = judge_surges(counts, last_weeks=last_weeks, weeks_ahead=weeks_ahead)
    known = ~np.isnan(judgement.p_value)
    np.testing.assert_array_equal(known, judgement.state != WeekState.NOT_JUDGED)
    assert not known[np.isnan(judgement.observed)].any()
    assert (judgement.adjusted_p_value[known] >= judgement.p_value[known]).all()
    surge = judgement.state == WeekState.SURGE
    assert (judgement.observed[surge] > judgement.threshold[surge]).all()
    scores, variances = judgement.scores()
    ahead = predict_surges_ahead(
        scores[:, :last_weeks], np.full((len(counts), 2), 2.0), score_variances=np.nan_to_num(variances[:, :last_weeks])
    )
    assert ((ahead.any_week >= 0) & (ahead.any_week <= 1)).all()
    assert (ahead.any_week >= ahead.each_week.max(axis=1) - 1e-12).all()


@few
@given(odd_series(), st.floats(1.5, 4.0))
def test_more_cases_are_never_less_surprising(counts: Floats, factor: float) -> None:
    more = counts.copy()
    more[:, -1] = np.ceil(more[:, -1] * factor + 1)
    before, after = judge_surges(counts).p_value[:, 0], judge_surges(more).p_value[:, 0]
    known = ~np.isnan(before)
    assert (after[known] <= before[known] + 1e-12).all()


@few
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(allow_nan=True)))
def test_any_floats_are_counts_or_refused(table: Floats) -> None:
    bad = (table < 0).any() or (table > 1e12).any()
    for call in (detect_farrington, detect_ears, judge_surges):
        if bad:
            with pytest.raises(SeriesError):
                call(table)
        else:
            call(table)


@few
@given(st.integers(-3, 600), st.integers(-3, 600), st.floats(-1, 2))
def test_any_settings_work_or_are_refused(last_weeks: int, weeks_ahead: int, alpha: float) -> None:
    good = last_weeks >= 1 and 0 <= weeks_ahead <= 26 and 0 < alpha < 0.5
    if good:
        judge_surges(np.ones((1, 20)), last_weeks=last_weeks, weeks_ahead=weeks_ahead, alpha=alpha)
    else:
        with pytest.raises(ParameterError):
            judge_surges(np.ones((1, 20)), last_weeks=last_weeks, weeks_ahead=weeks_ahead, alpha=alpha)


def test_ten_thousand_weeks() -> None:
    counts = np.random.default_rng(1).poisson(9.0, 10_000)
    judgement = judge_surges(counts, last_weeks=3)
    assert (judgement.state != WeekState.NOT_JUDGED).all()


@few
@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=30))
def test_adjusted_p_values_keep_order_and_range(p_values: list[float]) -> None:
    given_p = np.array(p_values, dtype=float)
    adjusted = adjust_benjamini_hochberg(given_p)
    known = ~np.isnan(given_p)
    np.testing.assert_array_equal(known, ~np.isnan(adjusted))
    assert (adjusted[known] >= given_p[known]).all()
    assert (adjusted[known] <= 1).all()
    order = np.argsort(given_p[known])
    assert (np.diff(adjusted[known][order]) >= -1e-15).all()


@few
@given(st.floats(0, 1e8), st.floats(1, 500), st.floats(1e-6, 0.4))
def test_quantile_and_tail_agree(mean: float, dispersion: float, alpha: float) -> None:
    quantile = float(upper_quantile(alpha, mean, dispersion))
    assert quantile >= 0
    assert float(upper_tail(quantile + 1, mean, dispersion)) <= alpha
    if quantile > 0:
        assert float(upper_tail(quantile, mean, dispersion)) > alpha
