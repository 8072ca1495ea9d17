"""Tails and quantiles of counts with mean ``mu`` and variance ``dispersion * mu``.

Dispersion above 1 means the negative binomial of size ``mu / (dispersion - 1)`` and probability ``1 / dispersion``;
dispersion 1 means the Poisson distribution. All functions are vectorised and broadcast their arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

POISSON_BELOW = 1.0 + 1e-9
"""Dispersions below this are Poisson: the negative binomial's size would lose all digits."""


def upper_tail(count: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> FloatArray:
    """P(Y >= count) for Y of ``mean`` and variance ``dispersion * mean``.

    ``count`` may be fractional (rounded up). NaN anywhere gives NaN; a mean of 0 puts all weight on 0.
    """
    from scipy.special import betainc, gammainc

    y, mu, phi = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (count, mean, dispersion)))
    y = np.ceil(y)
    result = np.ones(y.shape)
    known = ~(np.isnan(y) | np.isnan(mu) | np.isnan(phi))
    result[~known] = np.nan
    result[known & (y > 0) & (mu <= 0)] = 0.0
    open_case = known & (y > 0) & (mu > 0)
    poisson = open_case & (phi < POISSON_BELOW)
    negative_binomial = open_case & ~poisson
    result[poisson] = gammainc(y[poisson], mu[poisson])
    excess = phi[negative_binomial] - 1.0
    result[negative_binomial] = betainc(
        y[negative_binomial], mu[negative_binomial] / excess, excess / phi[negative_binomial]
    )
    return np.clip(result, 0.0, 1.0)


def upper_quantile(alpha: float, mean: ArrayLike, dispersion: ArrayLike) -> FloatArray:
    """Smallest integer ``q`` with P(Y <= q) >= 1 - ``alpha``; NaN where mean or dispersion is NaN."""
    from scipy.special import ndtri

    mu, phi = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (mean, dispersion)))
    z = float(ndtri(1.0 - alpha))
    # Cornish and Fisher (1938) with the skewness of the negative binomial, then single steps to the exact integer.
    deviation = np.sqrt(np.maximum(mu * phi, 0.0))
    guess = np.floor(mu + z * deviation + (z * z - 1.0) / 6.0 * (2.0 * phi - 1.0))
    quantile = np.where(np.isnan(mu) | np.isnan(phi), np.nan, np.maximum(guess, 0.0))
    flat, flat_mu, flat_phi = quantile.reshape(-1), mu.reshape(-1), phi.reshape(-1)
    moving = np.flatnonzero(~np.isnan(flat))
    while moving.size:  # too low: P(Y > q) is still above alpha
        moving = moving[upper_tail(flat[moving] + 1.0, flat_mu[moving], flat_phi[moving]) > alpha]
        flat[moving] += np.maximum(1.0, np.floor(0.02 * deviation.reshape(-1)[moving]))
    moving = np.flatnonzero(flat > 0)
    while moving.size:  # too high: one less would do
        moving = moving[upper_tail(flat[moving], flat_mu[moving], flat_phi[moving]) <= alpha]
        flat[moving] -= 1.0
        moving = moving[flat[moving] > 0]
    return flat.reshape(mu.shape)
