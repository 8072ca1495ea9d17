"""Farrington's flexible method against published numbers and against statsmodels."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from medisync.errors import ParameterError, SeriesError
from medisync.stats.farrington import CLASSIC, NOUFAILY, FarringtonSettings, detect_farrington
from medisync.stats.quasipoisson import SeasonalDesign, fit_quasipoisson

DATA = Path(__file__).parents[2] / "data" / "surveillance"
CONFIGS = {
    "noufaily_nb": NOUFAILY,
    "noufaily_delta": dataclasses.replace(NOUFAILY, threshold="two-thirds-power"),
    "default": CLASSIC,
}


def series(name: str) -> tuple[pd.DataFrame, NDArray[np.datetime64] | None]:
    frame = pd.read_csv(DATA / f"{name}.csv")
    if name == "salmonella_agona":
        return frame, None
    days = [dt.date.fromisocalendar(year, week, 1) for year, week in zip(frame["year"], frame["week"], strict=True)]
    return frame, np.array(days, dtype="datetime64[D]")


@pytest.mark.parametrize("name", ["salmonella_agona", "salmonella_hospitalized"])
@pytest.mark.parametrize("config", CONFIGS)
def test_equals_r(name: str, config: str) -> None:
    """Thresholds, expected counts and dispersions of R surveillance 1.20.3 to 1e-9, and the same alarms."""
    frame, days = series(name)
    reference = pd.read_csv(DATA / f"{name}_reference.csv").query("config == @config")
    result = detect_farrington(
        frame["observed"], weeks=reference["index"].to_numpy() - 1, settings=CONFIGS[config], first_days=days
    )
    np.testing.assert_allclose(result.threshold[0], reference["upperbound"], rtol=1e-9, atol=0)
    np.testing.assert_allclose(result.expected[0], reference["expected"], rtol=1e-9, atol=0)
    np.testing.assert_allclose(result.dispersion[0], reference["phi"], rtol=1e-9, atol=0)
    assert (result.alarm[0] == (reference["alarm"] == 1)).all()


def test_batching_changes_nothing() -> None:
    """A series is judged alike alone and among others."""
    rng = np.random.default_rng(3)
    counts = rng.poisson(6.0, (5, 330)).astype(float)
    together = detect_farrington(counts)
    for row in range(5):
        alone = detect_farrington(counts[row])
        np.testing.assert_allclose(alone.p_value[0], together.p_value[row], rtol=1e-10)
        np.testing.assert_allclose(alone.threshold[0], together.threshold[row])


def test_fit_equals_statsmodels() -> None:
    """The closed-form normal equations give what a general GLM gives, at full convergence."""
    import statsmodels.api as sm

    rng = np.random.default_rng(8)
    time = np.arange(-240.0, -26.0)
    level = (np.arange(time.size) // 6 % 5).astype(np.intp)
    counts = rng.poisson(np.exp(1.0 + 0.004 * time + 0.3 * level)).astype(float)
    weights = rng.uniform(0.5, 1.5, time.size)
    fit = fit_quasipoisson(counts[None], weights[None], SeasonalDesign(time, level, 5), trend=True)
    columns = np.column_stack([(level == one).astype(float) for one in range(5)] + [time])
    peer = sm.GLM(counts, columns, family=sm.families.Poisson(), var_weights=weights).fit(tol=1e-12)
    assert fit.slope[0] == pytest.approx(peer.params[5], rel=1e-6)
    assert fit.mean_now[0] == pytest.approx(np.exp(peer.params[0]), rel=1e-6)
    assert fit.pearson[0] == pytest.approx(peer.pearson_chi2 / (time.size - 6), rel=1e-6)
    assert fit.slope_variance[0] == pytest.approx(peer.normalized_cov_params[5, 5], rel=1e-4)
    assert fit.log_mean_variance[0] == pytest.approx(peer.normalized_cov_params[0, 0], rel=1e-4)
    np.testing.assert_allclose(fit.leverage[0], peer.get_hat_matrix_diag(observed=False), rtol=1e-4)


def test_known_outbreak_is_found_and_weighted_down() -> None:
    """Ten times the usual count is an alarm; a year later it barely moves what is expected."""
    rng = np.random.default_rng(5)
    counts = rng.poisson(10.0, 400).astype(float)
    quiet = detect_farrington(counts, weeks=[399])
    counts[340:344] = 100.0
    assert detect_farrington(counts, weeks=[340, 341, 342, 343]).alarm.all()
    after = detect_farrington(counts, weeks=[399])
    assert after.expected[0, 0] == pytest.approx(quiet.expected[0, 0], rel=0.15)
    assert after.threshold[0, 0] <= 1.3 * quiet.threshold[0, 0]


def test_past_outbreaks_do_not_hide_one_another() -> None:
    """With many past outbreaks the spread of quiet weeks is found again; the published dispersion is far too large."""
    rng = np.random.default_rng(15)
    counts = rng.poisson(10.0, (60, 320)).astype(float)
    for row in counts:
        row[rng.choice(np.arange(60, 290), 14, replace=False)] += 25
    result = detect_farrington(counts, weeks=[319])
    assert result.dispersion.mean() > 1.5
    assert result.quiet_dispersion.mean() == pytest.approx(1.1, abs=0.3)
    assert result.quiet_mean.mean() == pytest.approx(10.0, rel=0.08)


def test_missing_weeks_leave_the_baseline() -> None:
    """A baseline with unreported weeks is judged from the others; an unreported week is not judged."""
    rng = np.random.default_rng(6)
    counts = rng.poisson(20.0, 320).astype(float)
    full = detect_farrington(counts, weeks=[319])
    counts[150:158] = np.nan
    gappy = detect_farrington(counts, weeks=[319])
    assert gappy.expected[0, 0] == pytest.approx(full.expected[0, 0], rel=0.1)
    counts[319] = np.nan
    assert np.isnan(detect_farrington(counts, weeks=[319]).p_value).all()
    assert not detect_farrington(counts, weeks=[319]).alarm.any()


def test_no_case_in_the_season_does_not_make_one_case_impossible() -> None:
    """With an all-zero window R's threshold is 0; the predictive p-value of one case stays sensible."""
    counts = np.zeros(320)
    counts[[30, 90, 200]] = 1.0
    counts[319] = 1.0
    result = detect_farrington(counts, weeks=[319])
    assert 0.005 < result.p_value[0, 0] < 0.2


@pytest.mark.parametrize("length", [0, 1, 2, 200])
def test_too_short_is_not_judged(length: int) -> None:
    result = detect_farrington(np.ones(length))
    assert result.p_value.shape == (1, 0)


@pytest.mark.parametrize("counts", [[-1.0, 2.0], [np.inf, 1.0], ["a", "b"], np.zeros((2, 2, 2))])
def test_bad_counts(counts: object) -> None:
    with pytest.raises(SeriesError):
        detect_farrington(counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"alpha": 0.0}, {"alpha": 0.7}, {"years_back": 0}, {"excluded_weeks": 60}, {"season_levels": 50}]
)
def test_bad_settings(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        FarringtonSettings(**bad)  # type: ignore[arg-type]


def test_bad_weeks_and_dates() -> None:
    counts = np.ones(300)
    with pytest.raises(SeriesError, match="outside"):
        detect_farrington(counts, weeks=[300])
    with pytest.raises(SeriesError, match="seven days"):
        detect_farrington(counts, first_days=np.arange("2020-01-01", "2020-10-27", dtype="datetime64[D]"))
    with pytest.raises(SeriesError, match="one first day"):
        detect_farrington(counts, first_days=["2020-01-06"])
