"""Mean and variance of the entries of a tensor in a network with random weights.

A kernel with random entries of mean 0 makes a normal signal that is uncorrelated with all others;
what is computed from it entry by entry stays correlated with it. Each signal therefore keeps
draws of its distribution, which pair up with those of the signals it depends on.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_winit.initializers.placement import Array
from keras_winit.theory.activations import find_activation
from keras_winit.theory.quadrature import adaptive_quadrature, normal_density

# Draws of a signal. Their moments are right to about 1 %; they serve where formulas do not.
DRAWS = 1 << 13


@dataclasses.dataclass(frozen=True)
class Signal:
    """The distribution of the entries of a tensor.

    Args:
        mean: Their mean.
        variance: Their variance.
        draws: Draws of their distribution, paired with those of other signals.
        sources: Numbers of the independent random signals that it is computed from.
        is_normal: Whether the distribution is normal.
    """

    mean: float
    variance: float
    draws: Array
    sources: frozenset[int]
    is_normal: bool = False

    @property
    def second_moment(self) -> float:
        """The mean of the squared entries."""
        return self.variance + self.mean**2

    def scaled(self, factor: float, shift: float = 0.0) -> "Signal":
        """Return factor x + shift for entries x."""
        return dataclasses.replace(
            self,
            mean=factor * self.mean + shift,
            variance=factor**2 * self.variance,
            draws=factor * self.draws + shift,
        )

    def with_moments(self, mean: float, variance: float) -> "Signal":
        """Return a signal of other moments, with the draws moved and scaled to fit them."""
        scale = math.sqrt(variance / self.variance) if self.variance > 0 else 0.0
        moved = mean + scale * (self.draws - self.mean)
        return Signal(mean, variance, moved, self.sources, self.is_normal)

    def joined_draws(self, draws: Array, others: Sequence["Signal"] = ()) -> "Signal":
        """Return a signal computed from this one and others entry by entry, given its draws."""
        sources = self.sources.union(*(other.sources for other in others))
        return Signal(float(draws.mean()), float(draws.var()), draws, sources)


class Sources:
    """Makes normal signals that are independent of each other."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def normal(self, mean: float, variance: float) -> Signal:
        """Return a new normal signal."""
        number = next(self._numbers)
        shuffled = np.random.default_rng(number).permutation(_normal_quantiles())
        draws = mean + math.sqrt(max(variance, 0.0)) * shuffled
        return Signal(mean, max(variance, 0.0), draws, frozenset([number]), is_normal=True)

    def redrawn(self, signal: Signal) -> Signal:
        """Return an independent signal of the same distribution."""
        number = next(self._numbers)
        draws = np.random.default_rng(number).permutation(signal.draws)
        return dataclasses.replace(signal, draws=draws, sources=frozenset([number]))

    def measured(self, values: Array) -> Signal:
        """Return a new signal that is distributed like some values."""
        entries = np.asarray(values, np.float64).reshape(-1)
        number = next(self._numbers)
        draws = np.random.default_rng(number).choice(entries, DRAWS)
        return Signal(float(entries.mean()), float(entries.var()), draws, frozenset([number]))


def constant(values: Any) -> Signal:
    """Return the signal of a number, or of the entries of an array in random order."""
    entries = np.asarray(values, np.float64).reshape(-1)
    if entries.size == 0 or np.ptp(entries) == 0:
        value = float(entries[0]) if entries.size else 0.0
        return Signal(value, 0.0, np.full(DRAWS, value), frozenset(), is_normal=True)
    draws = np.random.default_rng(4).permutation(np.resize(entries, DRAWS))
    return Signal(float(entries.mean()), float(entries.var()), draws, frozenset())


@functools.cache
def _normal_quantiles() -> Array:
    """Return the means of N(0, 1) within `DRAWS` stretches of equal probability, of variance 1."""
    grid = np.linspace(-9, 9, 1 << 18)
    density = normal_density(grid)
    below = np.cumsum(density) / density.sum()
    values = np.interp((np.arange(DRAWS) + 0.5) / DRAWS, below, grid)
    values -= values.mean()
    return np.asarray(values / values.std(), np.float64)


def activated(signal: Signal, activation: Any) -> Signal:
    """Return a signal after an activation: by quadrature if it is normal, else by its draws.

    Raises:
        ValueError: If the activation does not act on each entry by itself, or its output has no
            finite variance.
    """
    function = find_activation("analytic_init", activation, {})
    after = signal.joined_draws(function(signal.draws))
    if not signal.is_normal or signal.variance == 0:
        return after
    shifted = dataclasses.replace(function, function=lambda x: function.function(x + signal.mean))
    quadrature = adaptive_quadrature(shifted, signal.variance)
    mean = quadrature.mean(quadrature.values)
    variance = quadrature.mean((quadrature.values - mean) ** 2)
    if not math.isfinite(variance):
        raise function.requirement_error("have a finite variance")
    is_normal = function.name == "linear"
    return dataclasses.replace(after, mean=mean, variance=variance, is_normal=is_normal)


def total(signals: Sequence[Signal]) -> Signal:
    """Return the sum of signals: of independent ones the variances add up."""
    draws = np.sum([signal.draws for signal in signals], axis=0)
    variance = sum(signal.variance for signal in signals)
    for first, second in itertools.combinations(signals, 2):
        variance += 2 * _covariance(first, second)
    joined = signals[0].joined_draws(draws, signals[1:])
    # A sum of two normal signals of the same sources need not be normal.
    independent = not _are_dependent(signals)
    return dataclasses.replace(
        joined,
        mean=sum(signal.mean for signal in signals),
        variance=max(variance, 0.0),
        is_normal=independent and all(signal.is_normal for signal in signals),
    )


def product(signals: Sequence[Signal]) -> Signal:
    """Return the product of signals, entry by entry."""
    constants = [signal for signal in signals if signal.variance == 0]
    varied = [signal for signal in signals if signal.variance > 0]
    if len(varied) == 1:
        return varied[0].scaled(math.prod(signal.mean for signal in constants))
    draws = np.prod([signal.draws for signal in signals], axis=0)
    joined = signals[0].joined_draws(draws, signals[1:])
    if _are_dependent(signals):
        return joined
    mean = math.prod(signal.mean for signal in signals)
    second_moment = math.prod(signal.second_moment for signal in signals)
    return dataclasses.replace(joined, mean=mean, variance=max(second_moment - mean**2, 0.0))


def combined(signals: Sequence[Signal], function: Callable[..., Array]) -> Signal:
    """Return any function of signals, entry by entry, by their draws."""
    with np.errstate(all="ignore"):
        draws = function(*(signal.draws for signal in signals))
    return signals[0].joined_draws(np.asarray(draws, np.float64), signals[1:])


def mixture(signals: Sequence[Signal], shares: Sequence[float]) -> Signal:
    """Return the entries of several signals side by side, each with its share of them."""
    mean = sum(share * signal.mean for signal, share in zip(signals, shares, strict=True))
    second = sum(s * signal.second_moment for signal, s in zip(signals, shares, strict=True))
    choice = np.random.default_rng(0).choice(len(signals), DRAWS, p=np.array(shares))
    draws = np.stack([signal.draws for signal in signals])[choice, np.arange(DRAWS)]
    joined = signals[0].joined_draws(draws, signals[1:])
    return dataclasses.replace(joined, mean=mean, variance=max(second - mean**2, 0.0))


def kept(signal: Signal, share: float, factor: float = 1.0) -> Signal:
    """Return a signal of which a random share is kept, times a factor; the rest becomes 0."""
    mean = share * factor * signal.mean
    second_moment = share * factor**2 * signal.second_moment
    is_kept = np.random.default_rng(1).permutation(DRAWS) < share * DRAWS
    joined = signal.joined_draws(np.where(is_kept, factor * signal.draws, 0.0))
    return dataclasses.replace(joined, mean=mean, variance=max(second_moment - mean**2, 0.0))


def averaged(signal: Signal, count: int) -> Signal:
    """Return the mean of `count` independent entries."""
    return signal.with_moments(signal.mean, signal.variance / count)


def largest(signal: Signal, count: int) -> Signal:
    """Return the largest of `count` independent entries, by the order statistics of the draws."""
    order = np.argsort(signal.draws, kind="stable")
    values = signal.draws[order]
    edges = (np.arange(DRAWS + 1) / DRAWS) ** count
    weights = np.diff(edges)
    mean = float(weights @ values)
    variance = float(weights @ (values - mean) ** 2)
    # A draw of rank u becomes the value of rank u**(1 / count).
    ranks = ((np.arange(DRAWS) + 0.5) / DRAWS) ** (1 / count)
    draws = np.empty(DRAWS)
    draws[order] = values[np.minimum((ranks * DRAWS).astype(int), DRAWS - 1)]
    return dataclasses.replace(signal.joined_draws(draws), mean=mean, variance=variance)


def contracted(first: Signal, second: Signal, count: int) -> Signal:
    """Return the sum of `count` products of independent entries of two signals."""
    mean = count * first.mean * second.mean
    squares = first.second_moment * second.second_moment - (first.mean * second.mean) ** 2
    normal = np.random.default_rng(5).permutation(_normal_quantiles())
    variance = max(count * squares, 0.0)
    return first.joined_draws(mean + math.sqrt(variance) * normal, [second]).with_moments(
        mean, variance
    )


def attended(scores: Signal, values: Signal, count: int) -> Signal:
    """Return the mean of `count` independent values, weighted by the softmax of scores."""
    shares = softmax(scores, count)
    return values.with_moments(values.mean, count * shares.second_moment * values.variance)


def softmax(signal: Signal, count: int) -> Signal:
    """Return the softmax over `count` independent entries, by draws."""
    rows = max(4096 // count, 64)
    chosen = np.random.default_rng(2).choice(signal.draws, (rows, count))
    chosen = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    shares = chosen / chosen.sum(axis=1, keepdims=True)
    draws = np.random.default_rng(3).choice(shares.reshape(-1), DRAWS)
    variance = max(float((shares**2).mean()) - 1 / count**2, 0.0)
    return dataclasses.replace(signal.joined_draws(draws), mean=1 / count, variance=variance)


def _are_dependent(signals: Sequence[Signal]) -> bool:
    return any(a.sources & b.sources for a, b in itertools.combinations(signals, 2))


def _covariance(first: Signal, second: Signal) -> float:
    if not first.sources & second.sources:
        return 0.0
    return float(np.mean((first.draws - first.draws.mean()) * (second.draws - second.draws.mean())))
