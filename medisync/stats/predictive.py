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
    z = -float(ndtri(alpha))
    # Cornish and Fisher (1938) with the skewness of the negative binomial, then a bracket around it, then halving.
    deviation = np.sqrt(np.maximum(mu * phi, 0.0))
    guess = np.floor(np.maximum(mu + z * deviation + (z * z - 1.0) / 6.0 * (2.0 * phi - 1.0), 0.0))
    known = ~(np.isnan(mu) | np.isnan(phi))
    quantile = np.full(mu.shape, np.nan)
    quantile[known] = _smallest(guess[known], mu[known], phi[known], alpha)
    return quantile


def _smallest(guess: FloatArray, mean: FloatArray, dispersion: FloatArray, alpha: float) -> FloatArray:
    """Smallest integer whose upper tail is at most ``alpha``, looked for around ``guess``."""

    def enough(count: FloatArray, which: NDArray[np.intp]) -> NDArray[np.bool_]:
        within: NDArray[np.bool_] = upper_tail(count + 1.0, mean[which], dispersion[which]) <= alpha
        return within

    everything = np.arange(guess.size)
    too_little, sufficient = np.full(guess.size, -1.0), guess.copy()
    above = enough(guess, everything)
    too_little[~above] = guess[~above]
    step, rising = 1.0, everything[~above]
    while rising.size:
        sufficient[rising] = guess[rising] + step
        still = ~enough(sufficient[rising], rising)
        too_little[rising[still]] = sufficient[rising[still]]
        rising, step = rising[still], 2.0 * step
    step, falling = 1.0, everything[above & (guess > 0)]
    while falling.size:
        lower = np.maximum(guess[falling] - step, -1.0)
        still = np.where(lower >= 0, enough(np.maximum(lower, 0.0), falling), False)
        too_little[falling[~still]] = lower[~still]
        sufficient[falling[still]] = lower[still]
        falling, step = falling[still], 2.0 * step
    open_still = everything[sufficient - too_little > 1.0]
    while open_still.size:
        middle = np.floor((too_little[open_still] + sufficient[open_still]) / 2.0)
        within = enough(middle, open_still)
        sufficient[open_still[within]] = middle[within]
        too_little[open_still[~within]] = middle[~within]
        open_still = open_still[sufficient[open_still] - too_little[open_still] > 1.0]
    return sufficient
