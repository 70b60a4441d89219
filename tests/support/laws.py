"""Distributions that weights must follow, and statistical tests of them.

Every bound comes from the sampling distribution. Correct code fails a check about once in 1.7
million runs (five standard errors, or a level of 5.7e-7). With the sizes used in the tests, a
standard deviation that is off by 2 % is nearly always found.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

LEVEL = 5.7e-7
erf = np.vectorize(math.erf, otypes=[float])


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def normal_cdf(x):
    return 0.5 * (1 + erf(np.asarray(x) / math.sqrt(2)))


@dataclass
class Law:
    """A distribution, given by its mean, variance, kurtosis and CDF.

    The kurtosis is the fourth standardized moment, 3 for a normal distribution.
    """

    mean: float
    variance: float
    kurtosis: float
    cdf: Any


def normal(stddev):
    return Law(0.0, stddev**2, 3.0, lambda x: normal_cdf(x / stddev))


def uniform(limit):
    return Law(0.0, limit**2 / 3, 1.8, lambda x: np.clip((x + limit) / (2 * limit), 0, 1))


def negative_half_normal(stddev):
    # -|z|: mean -sqrt(2/pi), variance 1 - 2/pi, kurtosis 3 + 8 (pi - 3) / (pi - 2)^2.
    return Law(
        -stddev * math.sqrt(2 / math.pi),
        stddev**2 * (1 - 2 / math.pi),
        3 + 8 * (math.pi - 3) / (math.pi - 2) ** 2,
        lambda x: 2 * normal_cdf(np.minimum(x, 0) / stddev),
    )


def cut_normal(stddev, low=-2.0, high=2.0):
    """Return the law of N(0, stddev**2) cut at `low` and `high` standard deviations.

    The moments are integrated with the trapezoidal rule.
    """
    grid = np.linspace(max(low, -12), min(high, 12), 400_001)
    weight = np.exp(-(grid**2) / 2)
    weight /= np.trapezoid(weight, grid)
    mean = np.trapezoid(weight * grid, grid)
    variance = np.trapezoid(weight * (grid - mean) ** 2, grid)
    fourth = np.trapezoid(weight * (grid - mean) ** 4, grid)
    below = normal_cdf(low)
    inside = normal_cdf(high) - below
    return Law(
        stddev * mean,
        stddev**2 * variance,
        fourth / variance**2,
        lambda x: np.clip((normal_cdf(np.clip(x / stddev, low, high)) - below) / inside, 0, 1),
    )


def deviations(weights, law):
    """Return a sentence for each of mean, variance and CDF that does not fit the law."""
    w = np.sort(np.asarray(weights, np.float64).ravel())
    n = w.size
    sentences = []
    mean = (w.mean() - law.mean) * math.sqrt(n / law.variance)
    if abs(mean) > 5:
        sentences.append(f"mean {w.mean():.4g}, {mean:.1f} standard errors off")
    ratio = ((w - law.mean) ** 2).mean() / law.variance
    variance = (ratio - 1) * math.sqrt(n / (law.kurtosis - 1))
    if abs(variance) > 5:
        sentences.append(f"variance {ratio:.4f} of the law's, {variance:.1f} standard errors off")
    below = law.cdf(w)
    ranks = np.arange(n + 1) / n
    distance = max((ranks[1:] - below).max(), (below - ranks[:-1]).max())
    if distance > math.sqrt(math.log(2 / LEVEL) / (2 * n)):
        sentences.append(f"CDF off by {distance:.4f}")
    return sentences


def chi_square_score(observed, expected):
    """Return Pearson's chi-square statistic as a standard normal score.

    Source: Wilson and Hilferty 1931.
    """
    observed = np.asarray(observed, float)
    freedom = observed.size - 1
    statistic = ((observed - expected) ** 2 / expected).sum()
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
