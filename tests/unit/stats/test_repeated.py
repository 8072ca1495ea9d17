"""Patients counted several times must not raise false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medisync.errors import SeriesError
from medisync.stats.association import measure_association
from medisync.stats.concentration import compare_with_uniform
from medisync.stats.repeated import RepeatedCounts, one_way_design_effect, two_way_design_effect


def _sums(per_patient: NDArray[np.int64]) -> RepeatedCounts:
    """``per_patient``: patients x cells."""
    total = per_patient.sum(axis=1, keepdims=True)
    counts = per_patient.astype(float)
    return RepeatedCounts(counts.sum(axis=0), (counts**2).sum(axis=0), (counts * total).sum(axis=0))


def _two_way(per_patient: NDArray[np.int64]) -> float:
    """``per_patient``: patients x rows x columns."""
    patients, rows, columns = per_patient.shape
    flat = _sums(per_patient.reshape(patients, -1))
    cells = RepeatedCounts(*(one.reshape(rows, columns) for one in (flat.cases, flat.squares, flat.products)))
    squares = float((per_patient.sum(axis=(1, 2)).astype(float) ** 2).sum())
    return two_way_design_effect(cells, _sums(per_patient.sum(axis=2)), _sums(per_patient.sum(axis=1)), squares)


def test_every_patient_counted_once_has_no_design_effect() -> None:
    rng = np.random.default_rng(1)
    once = rng.multinomial(1, np.full(12, 1 / 12), size=3_000)
    assert one_way_design_effect(_sums(once), 3_000.0) == pytest.approx(1.0, abs=0.01)
    assert _two_way(once.reshape(-1, 3, 4)) == pytest.approx(1.0, abs=0.01)


def test_every_patient_counted_twice_doubles_the_statistic() -> None:
    twice = 2 * np.random.default_rng(1).multinomial(1, np.full(12, 1 / 12), size=3_000)
    squares = float((twice.sum(axis=1) ** 2).sum())
    assert one_way_design_effect(_sums(twice), squares) == pytest.approx(2.0, abs=0.02)
    assert _two_way(twice.reshape(-1, 3, 4)) == pytest.approx(2.0, abs=0.05)


def _returning_patients(rng: np.random.Generator, patients: int) -> NDArray[np.int64]:
    """Patients x gender x condition without association: a patient keeps gender and mostly also the condition."""
    visits = 1 + rng.poisson(1.5, patients)
    gender, condition = rng.integers(0, 2, patients), rng.integers(0, 4, patients)
    counts = np.zeros((patients, 2, 4), dtype=np.int64)
    for visit in range(visits.max()):
        present = np.flatnonzero(visits > visit)
        now = np.where(rng.random(present.size) < 0.8, condition[present], rng.integers(0, 4, present.size))
        np.add.at(counts, (present, gender[present], now), 1)
    return counts


def test_returning_patients_raise_no_false_alarm() -> None:
    rng = np.random.default_rng(4)
    plain = corrected = 0
    for _ in range(300):
        counts = _returning_patients(rng, 300)
        table, effect = counts.sum(axis=0), _two_way(counts)
        plain += measure_association(table).p_value <= 0.05
        corrected += measure_association(table, design_effect=effect).p_value <= 0.05
    assert plain / 300 > 0.15  # what ignoring the patient does
    assert stats.binomtest(corrected, 300, 0.05).pvalue > 0.001


def test_repeated_prescriptions_raise_no_false_alarm() -> None:
    rng = np.random.default_rng(9)
    plain = corrected = 0
    for _ in range(300):
        counts = _returning_patients(rng, 200).sum(axis=1)
        squares = float((counts.sum(axis=1) ** 2).sum())
        effect = one_way_design_effect(_sums(counts), squares)
        plain += compare_with_uniform(counts.sum(axis=0)).p_value <= 0.05
        corrected += compare_with_uniform(counts.sum(axis=0), design_effect=effect).p_value <= 0.05
    assert plain / 300 > 0.15
    assert stats.binomtest(corrected, 300, 0.05).pvalue > 0.001


def test_nothing_to_compare_has_no_design_effect() -> None:
    empty = RepeatedCounts(np.zeros(3), np.zeros(3), np.zeros(3))
    single = RepeatedCounts(np.full(1, 5.0), np.full(1, 5.0), np.full(1, 5.0))
    assert one_way_design_effect(empty, 0.0) == one_way_design_effect(single, 5.0) == 1.0
    cells = RepeatedCounts(*(np.zeros((2, 3)),) * 3)
    rows = RepeatedCounts(*(np.zeros(2),) * 3)
    assert two_way_design_effect(cells, rows, empty, 0.0) == 1.0


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([1.0, -1.0]), np.array([1.0])])
def test_bad_sums_are_refused(bad: NDArray[np.float64]) -> None:
    with pytest.raises(SeriesError):
        RepeatedCounts(np.ones(2), bad, np.ones(2))
