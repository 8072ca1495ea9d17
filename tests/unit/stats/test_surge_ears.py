"""EARS C1 to C3 against published numbers, and the honest false-alarm rate of its thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medisync.errors import ParameterError, SeriesError
from medisync.stats.ears import Method, detect_ears, weeks_needed

DATA = Path(__file__).parents[2] / "data" / "surveillance"


@pytest.mark.parametrize("name", ["salmonella_agona", "salmonella_hospitalized"])
@pytest.mark.parametrize("method", ["C1", "C2", "C3"])
def test_equals_r(name: str, method: Method) -> None:
    """Thresholds of R surveillance 1.20.3 to 1e-9, and the same alarms."""
    counts = pd.read_csv(DATA / f"{name}.csv")["observed"]
    reference = pd.read_csv(DATA / f"{name}_reference.csv").query(f"config == 'ears_{method}'")
    at = reference["index"].to_numpy() - 1
    result = detect_ears(counts, method=method)
    np.testing.assert_allclose(result.threshold[0, at], reference["upperbound"], rtol=1e-9, atol=0)
    assert (result.alarm[0, at] == (reference["alarm"] == 1)).all()


def test_false_alarm_rate_is_told_truly() -> None:
    """On normal counts C2 raises false alarms as often as it says, far more often than its alpha of 0.1 %."""
    counts = np.random.default_rng(1).normal(1000.0, 200.0, (40, 500))
    result = detect_ears(counts, method="C2")
    judged = ~np.isnan(result.threshold)
    rate, told = result.alarm[judged].mean(), result.false_alarm_probability
    assert told == pytest.approx(0.0138, abs=2e-4)
    assert abs(rate - told) < 4 * np.sqrt(told / judged.sum() * 3)  # neighbouring weeks share their baseline
    assert (result.p_value[judged] <= 0.005).mean() == pytest.approx(0.005, abs=0.0025)


@pytest.mark.parametrize("method", ["C1", "C2", "C3"])
def test_history_needed(method: Method) -> None:
    counts = np.random.default_rng(2).poisson(9.0, 30)
    judged = ~np.isnan(detect_ears(counts, method=method).threshold[0])
    assert judged.argmax() == weeks_needed(method)
    assert judged[weeks_needed(method) :].all()


def test_constant_baseline_is_judged_with_poisson_spread() -> None:
    counts = np.r_[np.full(12, 4.0), 5.0, 20.0]
    p_value = detect_ears(counts, method="C2").p_value[0]
    assert p_value[12] > 0.2
    assert p_value[13] < 0.001


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_too_short(length: int) -> None:
    result = detect_ears(np.ones((1, length)))
    assert np.isnan(result.threshold).all()
    assert not result.alarm.any()


def test_bad_input() -> None:
    with pytest.raises(ParameterError):
        detect_ears(np.ones(20), method="C4")  # type: ignore[arg-type]
    with pytest.raises(ParameterError):
        detect_ears(np.ones(20), alpha=0.0)
    with pytest.raises(SeriesError):
        detect_ears(-np.ones(20))
