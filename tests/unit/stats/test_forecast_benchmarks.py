"""The public data sets of ``bench/forecast.py`` in small: accuracy against published numbers, coverage, a trap."""

from __future__ import annotations

import numpy as np
import pytest

from bench.forecast import FLU_LEVELS, flat_baseline, flu_panel, hospital_values
from bench.report import Metric, as_table, main
from medisync.stats.combination import candidate_forecasts
from medisync.stats.forecasting import forecast_panel
from medisync.stats.scores import interval_coverage, naive_scale, weighted_interval_score
from medisync.stats.series import panel_of


@pytest.fixture(scope="module")
def hospital() -> np.ndarray:
    return hospital_values()


def test_the_hospital_series_are_all_there(hospital):
    assert hospital.shape == (767, 84)
    # Godahewa et al. (2021), arXiv 2105.06643, horizon 12: rerun of the seasonal naive forecast, 0.921
    known, truth = hospital[:, :-12], hospital[:, -12:]
    naive = candidate_forecasts(panel_of(known, "monthly"), 12, ("seasonal_naive",))["seasonal_naive"][:, 0]
    assert (np.abs(naive - truth).mean(axis=1) / naive_scale(known, 12)).mean() == pytest.approx(0.921, abs=0.001)


def test_hospital_forecasts_beat_the_published_ones(hospital):
    """Published there: Theta 0.761, ETS 0.765, ARIMA 0.787."""
    known, truth = hospital[:, :-12], hospital[:, -12:]
    made = candidate_forecasts(panel_of(known, "monthly"), 12)["combination"][:, 0]
    assert (np.abs(made - truth).mean(axis=1) / naive_scale(known, 12)).mean() <= 0.755


def test_hospital_intervals_hold_what_they_promise(hospital):
    some = hospital[::8]
    made = forecast_panel(panel_of(some[:, :-12], "monthly"), 12, candidates=("combination",), step=1)
    coverage = interval_coverage(made.quantiles, some[:, -12:])
    assert 76 <= coverage[80] <= 86
    assert 92 <= coverage[95] <= 98


def test_influenza_forecasts_beat_the_flat_baseline():
    panel = flu_panel()
    assert panel.values.shape == (52, 230)
    assert np.isnan(panel.values).sum() == 36
    rng = np.random.default_rng(1)
    own, flat = [], []
    for origin in (150, 156, 162, 200, 206, 212):  # up, peak and down of two seasons
        truth = panel.values[:, origin : origin + 4]
        made = forecast_panel(panel.until(origin), 4, levels=FLU_LEVELS)
        own.append(weighted_interval_score(made.quantiles, truth, FLU_LEVELS))
        flat.append(weighted_interval_score(flat_baseline(panel.values[:, :origin], 4, rng, 200), truth, FLU_LEVELS))
    assert np.nanmean(own) < 0.8 * np.nanmean(flat)


def test_reports_are_tables_and_json(capsys):
    metrics = {"speed": Metric(1.5, "s", "<= 2", "a peer", 3.0), "plain": Metric(2.0, "%", "> 1")}
    assert as_table(metrics).splitlines()[1].split() == ["speed", "1.5", "s", "<=", "2", "a", "peer", "3"]
    main(lambda: metrics, ["--json"])
    assert '"peer_value": 3.0' in capsys.readouterr().out
