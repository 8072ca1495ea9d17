"""Whatever a series looks like, forecasting gives a clear refusal or a sound answer: finite, ordered, at least 0."""

from __future__ import annotations

import contextlib
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medisync.errors import MediSyncError, ParameterError, SeriesError
from medisync.stats.accuracy_test import diebold_mariano
from medisync.stats.backtest import backtest
from medisync.stats.census import daily_admission_paths, expected_census, stay_survival
from medisync.stats.combination import METHODS, candidate_forecasts
from medisync.stats.counts import negative_binomial_quantiles
from medisync.stats.forecasting import forecast_panel
from medisync.stats.intervals import fit_error_model, prediction_quantiles, sample_paths
from medisync.stats.reporting import reporting_days
from medisync.stats.scoreboard import score_forecasts, scoreboard
from medisync.stats.scores import interval_coverage, naive_scale, weighted_interval_score
from medisync.stats.seasonal import seasonal_indices
from medisync.stats.series import Panel, panel_of, regular_panel

Floats = NDArray[np.float64]

FEW = settings(max_examples=25, deadline=None)
SMALL = settings(max_examples=60, deadline=None)

counts = st.one_of(st.integers(0, 3), st.integers(0, 200), st.integers(0, 5_000_000)).map(float)
observations = st.one_of(st.just(np.nan), st.just(0.0), counts)
anything = st.one_of(observations, st.floats(width=32), st.integers(-5, -1).map(float))
frequencies = st.sampled_from(["daily", "weekly", "monthly"])


@st.composite
def panels(draw: st.DrawFn, longest: int = 150) -> Panel:
    """One to three series of very different kinds on one calendar."""
    length = draw(st.sampled_from([1, 2, 3, 8, 9, 25, 60, longest]))
    kinds = st.sampled_from(["any", "constant", "zeros", "missing", "noise", "late", "gaps", "spike", "growth"])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for kind in draw(st.lists(kinds, min_size=1, max_size=3)):
        noise = rng.poisson(draw(st.sampled_from([0.1, 2.0, 50.0, 1e6])), length).astype(float)
        if kind == "any":
            noise = draw(arrays(float, length, elements=observations))
        elif kind in ("constant", "zeros", "missing"):
            noise = np.full(length, {"constant": 7.0, "zeros": 0.0, "missing": np.nan}[kind])
        elif kind == "late":
            noise[: length // 2] = np.nan
        elif kind == "gaps":
            noise[rng.random(length) < 0.5] = np.nan
        elif kind == "spike":
            noise[rng.integers(length)] = 1e7
        elif kind == "growth":
            noise = np.floor(np.exp(np.minimum(0.1 * np.arange(length), 15)))
        rows.append(noise)
    return panel_of(np.stack(rows), draw(frequencies))


def assert_sound(quantiles: Floats, panel: Panel) -> None:
    """Ordered, at least 0, finite exactly for the series that have an observation."""
    observed = np.isfinite(panel.values).any(axis=1)
    assert np.isfinite(quantiles[observed]).all()
    assert np.isnan(quantiles[~observed]).all()
    assert (quantiles[observed] >= 0).all()
    assert (np.diff(quantiles[observed], axis=-1) >= 0).all()


@FEW
@given(panels(), st.integers(1, 20))
def test_forecasts_are_sound(panel: Panel, horizon: int) -> None:
    made = forecast_panel(panel, horizon, origins=12)
    assert made.quantiles.shape == (len(panel.ids), horizon, 7)
    assert_sound(made.quantiles, panel)
    assert len(made.frame()) == len(panel.ids) * horizon
    for accuracy in made.accuracies.values():
        assert len(accuracy.verdicts) == len(panel.ids)
        assert not (accuracy.mae < 0).any()
    paths = sample_paths(made.errors, made.quantiles, 7, np.random.default_rng(1))
    assert paths.shape == (len(panel.ids), 7, horizon)
    assert not (paths < 0).any()


@FEW
@given(panels(), st.sampled_from([name for name in METHODS if name != "sarima"]), st.integers(1, 60))
def test_every_candidate_is_finite_and_not_negative(panel: Panel, method: str, horizon: int) -> None:
    if method == "daily_regression" and panel.frequency != "daily":
        with pytest.raises(ParameterError, match="daily"):
            candidate_forecasts(panel, horizon, (method,))
        return
    made = candidate_forecasts(panel, horizon, (method,))[method]
    observed = np.isfinite(panel.values).any(axis=1)
    assert np.isfinite(made[observed]).all()
    assert (made[observed] >= 0).all()
    past = backtest(panel, horizon, methods=(method,), origins=3)
    assert past.forecasts[method].shape == past.truth.shape


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([0, -1, -500, 367, 500, 10**9, 1.5, None, "8"]), st.sampled_from(["forecast", "backtest"]))
def test_impossible_horizons_are_refused(horizon: object, what: str) -> None:
    panel = panel_of(np.arange(30.0), "weekly")
    with pytest.raises(ParameterError, match="horizon"):
        (forecast_panel if what == "forecast" else backtest)(panel, horizon)  # type: ignore[operator,arg-type]


@pytest.mark.parametrize("frequency", ["daily", "weekly", "monthly"])
def test_ten_thousand_points(frequency: str) -> None:
    values = np.random.default_rng(1).poisson(20, 10_000).astype(float)
    panel = panel_of(values, frequency, first_day="1700-01-03" if frequency == "weekly" else "1990-01-01")
    made = forecast_panel(panel.until(10_000), 30, origins=12)
    assert_sound(made.quantiles, panel)
    assert made.median.mean() == pytest.approx(20, abs=2)


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ""]),
        st.one_of(
            st.dates(dt.date(2020, 1, 1), dt.date(2021, 6, 1)), st.dates(), st.sampled_from(["soon", "", 7, None])
        ),
        anything,
    ),
    max_size=12,
)


@SMALL
@given(rows, st.one_of(frequencies, st.sampled_from(["hourly", "", "Weekly"])), st.booleans())
@example([("a", dt.date(2024, 1, 1), 1.0), ("a", dt.date(2024, 1, 2), 1.0)], "weekly", False)
def test_any_frame_gives_a_regular_panel_or_a_clear_refusal(
    given_rows: list[tuple[str, object, float]], frequency: str, covered: bool
) -> None:
    frame = pd.DataFrame(given_rows, columns=["unique_id", "ds", "y"])
    edges = {"covered_from": dt.date(2020, 3, 3), "covered_until": dt.date(2021, 2, 2)} if covered else {}
    panel = None
    with contextlib.suppress(SeriesError, ParameterError):
        panel = regular_panel(frame, frequency, reporting=[dt.date(2020, 5, 5)], **edges)
    if panel is None:
        with pytest.raises((SeriesError, ParameterError), match=r"^(?!.*soon).*\.$"):
            regular_panel(frame, frequency, reporting=[dt.date(2020, 5, 5)], **edges)
        return
    assert panel.values.shape == (len(panel.ids), len(panel.periods))
    assert not (panel.values < 0).any()
    assert panel.periods.is_monotonic_increasing
    assert panel.periods.is_unique
    assert len(panel.flags) == len(panel.ids)


@SMALL
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**31))
def test_seasonal_indices_are_neutral_on_average(length: int, season: int, seed: int) -> None:
    values = np.random.default_rng(seed).poisson(5, (2, length)).astype(float)
    for kind, neutral in (("additive", 0.0), ("multiplicative", 1.0)):
        found = seasonal_indices(values, season, kind=kind)
        assert found.indices.mean(axis=1) == pytest.approx([neutral] * 2, abs=1e-9)
        assert ((found.weight >= 0) & (found.weight <= 1)).all()
        assert found.restore(found.remove(values), 0) == pytest.approx(values)


@SMALL
@given(arrays(float, (2, 12, 3), elements=observations), arrays(float, (2, 12, 3), elements=observations))
def test_error_models_and_their_quantiles(truth: Floats, forecasts: Floats) -> None:
    model = fit_error_model(truth, forecasts, 2)
    quantiles = prediction_quantiles(model, forecasts[:, 0], history=truth[:, :, 0])
    known = np.isfinite(forecasts[:, 0])
    assert np.isfinite(quantiles[known]).all()
    assert (quantiles[known] >= 0).all()
    assert (np.diff(quantiles[known], axis=-1) >= 0).all()
    assert 1 <= model.shared <= 2


@SMALL
@given(arrays(float, (2, 20), elements=observations), arrays(float, (2, 3), elements=counts))
def test_count_quantiles_are_whole_and_ordered(history: Floats, forecast: Floats) -> None:
    quantiles = negative_binomial_quantiles(history, forecast, [0.025, 0.5, 0.975])
    assert (quantiles >= 0).all()
    assert np.array_equal(quantiles, np.round(quantiles))
    assert (np.diff(quantiles, axis=-1) >= 0).all()


@SMALL
@given(arrays(float, (3, 14), elements=observations), arrays(float, (3, 14), elements=observations), st.integers(1, 30))
def test_the_accuracy_test_is_a_test(loss: Floats, reference: Floats, overlap: int) -> None:
    test = diebold_mariano(loss, reference, overlap)
    known = np.isfinite(test.p_value)
    assert ((test.p_value[known] >= 0) & (test.p_value[known] <= 1)).all()
    assert len(test.verdicts()) == 3
    mirrored = diebold_mariano(reference, loss, overlap)
    assert mirrored.p_value == pytest.approx(test.p_value, nan_ok=True)


@SMALL
@given(arrays(float, (4, 7), elements=counts), arrays(float, 4, elements=observations))
def test_scores_are_not_negative_and_coverage_is_a_share(quantiles: Floats, truth: Floats) -> None:
    ordered = np.sort(quantiles, axis=1)
    score = weighted_interval_score(ordered, truth)
    assert not (score < 0).any()
    for width, percent in interval_coverage(ordered, truth).items():
        assert width in (50, 80, 95)
        assert np.isnan(percent) or 0 <= percent <= 100
    assert not (naive_scale(ordered, 3) <= 0).any()


@FEW
@given(panels(longest=40), st.integers(1, 6))
def test_stored_forecasts_can_be_scored(panel: Panel, horizon: int) -> None:
    made = forecast_panel(panel, horizon, origins=4).frame()
    seen = pd.DataFrame({"unique_id": made["unique_id"], "ds": made["ds"], "y": 5.0})
    scored = score_forecasts(made, seen)
    assert len(scored) == made["median"].notna().sum()
    assert not (scored["weighted_interval_score"] < 0).any()
    assert scoreboard(scored)["forecasts"].sum() == len(scored)


@SMALL
@given(
    st.lists(st.tuples(st.integers(-1, 400), st.booleans(), st.integers(0, 50)), max_size=8),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40)), max_size=4),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(-1, 60)),
)
def test_census_is_a_number_of_beds_or_a_refusal(
    stays: list[tuple[int, bool, int]], present: list[tuple[int, int]], days: int, beds: int | None
) -> None:
    rng = np.random.default_rng(1)
    with contextlib.suppress(MediSyncError):
        nights, ended, weights = zip(*stays, strict=True) if stays else ((), (), ())
        survival = stay_survival(nights, ended, weights)
        assert (np.diff(survival.still_in) <= 0).all()
        admissions = daily_admission_paths(np.full((5, 1), 9.5), [max(days, 1)], rng)
        census = expected_census(
            admissions, survival, [n for n, _ in present], rng, in_now=[c for _, c in present], beds=beds
        )
        most = sum(count for _, count in present) + 10
        assert ((census.quantiles >= 0) & (census.quantiles <= most)).all()
        assert census.exceeding is None or ((census.exceeding >= 0) & (census.exceeding <= 1)).all()


@SMALL
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80))
def test_days_with_admissions_were_always_reported(numbers: list[int]) -> None:
    days = pd.date_range("2024-01-01", periods=len(numbers))
    daily = pd.DataFrame({"day": days, "admissions": numbers})
    busy = daily[daily["admissions"] > 0]
    reported = reporting_days(busy, days[0].date(), days[-1].date())
    assert busy["day"].isin(reported).all()
