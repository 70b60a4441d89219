"""Trains one network from many starts, compiled once, on JAX."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainability_cases.networks import Network, data_of
from trainability_cases.protocol import SETTINGS, steps_to_threshold

BATCH = 64


class Trainer:
    """Trains a network in all settings, from weights that were drawn for each seed.

    Args:
        network: The network.
        model: A model that it built. Only its structure counts.
        seeds: Seeds of the data and of the order of the batches.
        steps: Number of steps, or None: that of the network.
    """

    def __init__(
        self, network: Network, model: Any, seeds: Sequence[int], steps: int | None = None
    ) -> None:
        self._model, self._task = model, network.task
        self._steps = steps or network.steps
        per_seed = zip(*(data_of(network.task, seed) for seed in seeds), strict=True)
        self._data = [jnp.stack(list(arrays)) for arrays in per_seed]
        self._order = jnp.stack([self._batches(seed) for seed in seeds])
        self._compiled: Any = None

    def train(self, starts: Sequence[Any]) -> tuple[Any, Any]:
        """Return the test scores and the steps to the threshold, of shape (settings, seeds).

        Args:
            starts: For each seed the trainable and the other weights, as lists of arrays.
        """
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *starts)
        if self._compiled is None:
            self._compiled = jax.jit(self._train_all).lower(stacked).compile()
        scores, curves = self._compiled(stacked)
        return np.asarray(scores, np.float64), steps_to_threshold(np.asarray(curves))

    def _batches(self, seed: int) -> Any:
        count = len(self._data[0][0])
        return np.random.default_rng([seed, 1]).integers(0, count, (self._steps, BATCH))

    def _train_all(self, starts: Any) -> Any:
        """Train one run after the other: side by side they take as long, and more memory."""
        runs = [(s, d) for s in range(len(SETTINGS)) for d in range(len(self._order))]
        settings, seeds = (jnp.array(part) for part in zip(*runs, strict=True))
        scores, curves = jax.lax.map(lambda run: self._run(starts, *run), (settings, seeds))
        shape = (len(SETTINGS), len(self._order))
        return scores.reshape(shape), curves.reshape(*shape, -1)

    def _run(self, starts: Any, setting: Any, seed: Any) -> Any:
        adam = jnp.array([adam for _, adam, _ in SETTINGS])[setting]
        rate = jnp.array([rate for _, _, rate in SETTINGS])[setting]
        weights, states = jax.tree.map(lambda stacked: stacked[seed], starts)
        inputs, targets, test_inputs, test_targets = (part[seed] for part in self._data)
        order = self._order[seed]
        zeros = [jnp.zeros_like(weight) for weight in weights]

        def step(carry: Any) -> Any:
            number, weights, states, moments, curve, _ = carry
            rows = order[number]
            (loss, (states, score)), gradients = jax.value_and_grad(self._loss, has_aux=True)(
                weights, states, inputs[rows], targets[rows]
            )
            weights, moments = _update(adam, rate, number + 1, weights, moments, gradients)
            return number + 1, weights, states, moments, curve.at[number].set(score), loss

        def goes_on(carry: Any) -> Any:
            return (carry[0] < self._steps) & jnp.isfinite(carry[-1])

        first = (0, weights, states, (zeros, zeros), jnp.zeros(self._steps), jnp.float32(0))
        _, weights, states, _, curve, loss = jax.lax.while_loop(goes_on, step, first)
        outputs, _ = self._model.stateless_call(weights, states, test_inputs, training=False)
        score = jnp.where(jnp.isfinite(loss), self._score(outputs, test_targets), 0.0)
        return jnp.nan_to_num(score), curve

    def _loss(self, weights: Any, states: Any, inputs: Any, targets: Any) -> Any:
        outputs, states = self._model.stateless_call(weights, states, inputs, training=True)
        if self._task == "adding":
            loss = jnp.mean((outputs[:, 0] - targets) ** 2)
        else:
            scores = jax.nn.log_softmax(outputs)
            loss = -jnp.mean(jnp.take_along_axis(scores, targets[:, None], 1))
        return loss, (states, self._score(outputs, targets))

    def _score(self, outputs: Any, targets: Any) -> Any:
        """Return the accuracy, or the explained share of the variance, not below 0."""
        if self._task != "adding":
            return jnp.mean(jnp.argmax(outputs, 1) == targets)
        error = jnp.mean((outputs[:, 0] - targets) ** 2)
        return jnp.maximum(1 - error / jnp.var(targets), 0.0)


@functools.partial(jax.jit, inline=True)
def _update(adam: Any, rate: Any, number: Any, weights: Any, moments: Any, gradients: Any) -> Any:
    """Apply Adam or SGD with momentum, by the formulas of Keras."""
    first, second = moments
    first = [0.9 * m + jnp.where(adam, 0.1, 1.0) * g for m, g in zip(first, gradients, strict=True)]
    second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)]
    corrected = jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
    rate = rate * jnp.where(adam, corrected, 1.0)
    weights = [
        w - rate * m / jnp.where(adam, jnp.sqrt(v) + 1e-7, 1.0)
        for w, m, v in zip(weights, first, second, strict=True)
    ]
    return weights, (first, second)
