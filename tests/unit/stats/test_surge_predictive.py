"""Count distributions against scipy, the reweighting factors against simulation, and Benjamini-Hochberg."""

from __future__ import annotations

import numpy as np
import pytest

from medisync.errors import SeriesError
from medisync.stats.farrington import quiet_distribution
from medisync.stats.multiplicity import adjust_benjamini_hochberg
from medisync.stats.predictive import upper_quantile, upper_tail
from medisync.stats.reweighting import undo_reweighting


def test_upper_tail_equals_scipy() -> None:
    from scipy import stats

    for mean in (0.02, 0.7, 9.0, 400.0, 1e6):
        y = np.unique(np.floor(mean + np.sqrt(mean) * np.arange(-3, 9))).clip(0)
        np.testing.assert_allclose(upper_tail(y, mean, 1.0), stats.poisson.sf(y - 1, mean), rtol=1e-9)
        for dispersion in (1.01, 2.0, 15.0):
            peer = stats.nbinom.sf(y - 1, mean / (dispersion - 1), 1 / dispersion)
            np.testing.assert_allclose(upper_tail(y, mean, dispersion), peer, rtol=1e-7)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.005, 1e-4])
def test_upper_quantile_is_the_smallest(alpha: float) -> None:
    mean, dispersion = np.meshgrid([0.0, 0.01, 0.4, 3.0, 55.0, 3000.0], [1.0, 1.3, 4.0, 30.0])
    quantile = upper_quantile(alpha, mean, dispersion)
    assert (upper_tail(quantile + 1, mean, dispersion) <= alpha).all()
    positive = quantile > 0
    assert (upper_tail(quantile, mean, dispersion)[positive] > alpha).all()


def test_missing_stays_missing() -> None:
    assert np.isnan(upper_tail(np.nan, 1.0, 1.0))
    assert np.isnan(upper_quantile(0.01, [np.nan], [1.0])).all()


def test_uncertain_mean_is_exact_for_poisson() -> None:
    """A gamma mixture of Poissons is a negative binomial: compared with drawing it."""
    rng = np.random.default_rng(4)
    mean, variance = 6.0, 1.5
    shape = mean**2 / variance + 0.5
    drawn = rng.poisson(rng.gamma(shape, variance / mean, 400_000))
    quiet_mean, dispersion = quiet_distribution(mean, 1.0, variance)
    for count in (8, 12, 15):
        expected = float(upper_tail(count, quiet_mean, dispersion))
        assert (drawn >= count).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / drawn.size))


@pytest.mark.parametrize(("mean", "dispersion"), [(0.2, 2.0), (1.6, 5.0), (12.0, 3.0), (90.0, 1.2)])
def test_reweighting_is_undone(mean: float, dispersion: float) -> None:
    """What reweighting takes from quiet counts is given back, to a few per cent."""
    rng = np.random.default_rng(9)
    counts = rng.negative_binomial(mean / (dispersion - 1), 1 / dispersion, 400_000).astype(float)
    residual = 1.5 * (np.cbrt(counts) ** 2 / mean ** (1 / 6) - np.sqrt(mean)) / np.sqrt(dispersion)
    weight = np.where(residual > 2.58, 1 / np.maximum(residual, 1.0) ** 2, 1.0)
    fitted = np.average(counts, weights=weight)
    pearson = np.average((counts - fitted) ** 2, weights=weight) / fitted
    mean_factor, dispersion_factor = undo_reweighting(np.array([fitted]), np.array([pearson]), 2.58)
    assert fitted * mean_factor[0] == pytest.approx(mean, rel=0.08)
    assert pearson * dispersion_factor[0] == pytest.approx(dispersion, rel=0.10)
    assert abs(pearson * dispersion_factor[0] - dispersion) < abs(pearson - dispersion)


def test_benjamini_hochberg() -> None:
    """Worked by hand, and the example of Benjamini and Hochberg (1995), section 3.2: four rejections at 0.05."""
    np.testing.assert_allclose(adjust_benjamini_hochberg([0.01, 0.04, 0.03, 0.2]), [0.04, 0.16 / 3, 0.16 / 3, 0.2])
    published = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip
    assert (adjust_benjamini_hochberg(published) <= 0.05).sum() == 4


def test_benjamini_hochberg_missing_and_bad() -> None:
    adjusted = adjust_benjamini_hochberg([0.01, np.nan, 0.02])
    np.testing.assert_allclose(adjusted, [0.02, np.nan, 0.02])
    assert adjust_benjamini_hochberg([]).size == 0
    with pytest.raises(SeriesError):
        adjust_benjamini_hochberg([0.2, 1.2])
