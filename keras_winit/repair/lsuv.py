"""LSUV: scales each kernel so that pre-activations have one variance on a batch of data."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from keras_winit.initializers.orthogonal import Orthogonal
from keras_winit.initializers.placement import Array
from keras_winit.initializers.wrapping import bound_to
from keras_winit.models.elapsed import elapsed, require_verbosity
from keras_winit.models.no_gradients import no_gradients
from keras_winit.models.variable_values import copy_of, draw
from keras_winit.repair.changes import Change, Changes, stddev
from keras_winit.repair.gradient_growth import growth_note
from keras_winit.repair.interception import (
    activation_removed,
    call_all_times_at_once,
    intercepted,
    variables_as_stored,
)
from keras_winit.repair.lsuv_inputs import lsuv_inputs
from keras_winit.repair.owners import Owner, kernel_owners
from keras_winit.repair.pre_activations import Correction, common_correction, unit_correction
from keras_winit.repair.transaction import Progress, restored_on_error


def lsuv(
    model: Any,
    data: Any,
    *,
    target: float = 1.0,
    orthogonal: bool = True,
    per_channel: bool = False,
    center: bool = False,
    layers: Any = None,
    samples: int = 64,
    seed: Any = None,
    verbose: int | str = "auto",
) -> Changes:
    """Give the pre-activations of every layer the same variance on a batch of data.

    Layer-sequential unit-variance initialization: every kernel becomes orthogonal and is then
    divided by the standard deviation of the pre-activations that it makes. One forward pass in
    inference mode does this for all layers: each layer computes its output again with the
    corrected kernel, so that the next layer measures what it will receive. Pre-activations are
    measured over all samples, positions and units of a layer, before its activation. Biases stay
    as they are.

    Dense layers, `EinsumDense`, convolutions of every kind and the projections of attention
    layers are set. A layer that is called several times is set at its first call. Of a separable
    convolution both kernels get the square root of the factor. Recurrent layers, embeddings,
    layers with weights of unknown use, layers that are frozen, quantized or have LoRA updates,
    and layers whose outputs are constant on the batch are left as they are; the returned table
    says so. A constant layer raises no error, because one dead branch or a padded position says
    nothing against the other layers; if all are constant, that is an error. Batch-normalization
    statistics and seeds do not change.

    Args:
        model: A model of any kind. If it is not built, it is built on the batch.
        data: Inputs: an array, a list or a dictionary of arrays; or batches, of which the first
            is used: a `PyDataset`, a `tf.data.Dataset`, a `DataLoader` or another iterable.
            Preprocessed as for training.
        target: Variance of the pre-activations, above 0. Defaults to 1.
        orthogonal: Whether kernels first become orthogonal; if not, they keep their directions.
            Defaults to True.
        per_channel: Whether each unit gets the variance by itself. Defaults to False.
        center: Whether biases are set such that each unit has the mean 0, as far as layers have
            biases. Defaults to False. This and `per_channel` make deep networks without
            normalization sensitive to small changes of their inputs; a warning says how much.
        layers: The layers to set, with all inside them: a pattern of names such as "block*", a
            layer, a class of layers, a predicate, or a list of these. Defaults to None: all.
        samples: Number of samples, at least 1, that are taken from arrays, evenly spaced.
            Defaults to 64.
        seed: An integer, a `keras.random.SeedGenerator` or None, for the orthogonal kernels.
            Every kernel has a stream of its own, which is the same on each backend.
        verbose: 0 prints nothing. "auto", 1 and 2 print how far a call is that takes longer than
            a second, to the standard error. Defaults to "auto".

    Returns:
        A table with one row for each kernel, which prints.

    Raises:
        TypeError: If `model` is not a layer, or an argument has the wrong type.
        ValueError: If an argument is out of range, pre-activations are not finite, or no kernel
            can be set. After any error, also Ctrl-C, all variables are as before the call.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, "relu")])
        >>> x = keras.random.normal((100, 8), seed=1)
        >>> [row.was_set for row in lsuv(model, x, seed=1).rows]
        [True]

    Source: Mishkin and Matas 2015, arXiv:1511.06422, algorithm 1; for `per_channel` and
        `center`, Krähenbühl et al. 2015, arXiv:1511.06856, section 3.1.
    Departs: The paper repeats the forward pass until the variance is within a tolerance. A
        pre-activation is linear in its kernel, so that one correction is exact. The step of
        Krähenbühl et al. between layers (section 3.2), which equalizes the relative size of
        the gradients, is left out: it keeps the function that the network computes, and with it
        the growth that the warning is about. On digits, with 30 dense layers of ReLU, GELU or
        tanh and three optimizers, it brought no network that fails without it to an accuracy of
        0.5, and made those of tanh fail, whose pre-activations it lets grow.
    """
    _check_arguments(model, target, samples)
    require_verbosity("lsuv", verbose)
    batch = lsuv_inputs(data, samples)
    with no_gradients():
        if not model.built:
            model(batch, training=False)
        owners = kernel_owners("lsuv", model, layers)
        start = Orthogonal(seed=seed) if orthogonal else None

        def correction(owner: Owner, outputs: Any) -> Correction:
            if per_channel or center:
                return unit_correction(owner, outputs, target, per_channel, center)
            return common_correction(owner, outputs, target)

        with (
            restored_on_error("lsuv", model.variables) as progress,
            elapsed("lsuv", verbose, lambda: f"{progress.place} "),
        ):
            rows = _Pass(model, owners, start, correction, progress).run(batch)
    notes = growth_note(model) if per_channel or center else ()
    return Changes("lsuv", rows, notes)


def _check_arguments(model: Any, target: Any, samples: Any) -> None:
    if not isinstance(model, keras.Layer):
        raise TypeError(f"`lsuv(model=...)` must be a model or a layer. Received: model={model!r}.")
    if isinstance(target, bool) or not isinstance(target, Real):
        raise TypeError(f"`lsuv(target=...)` must be a number > 0. Received: target={target!r}.")
    if not 0 < float(target) < math.inf:
        raise ValueError(f"`lsuv(target=...)` must be a number > 0. Received: target={target!r}.")
    if isinstance(samples, bool) or not isinstance(samples, int):
        raise TypeError(
            f"`lsuv(samples=...)` must be an integer >= 1. Received: samples={samples!r}."
        )
    if samples < 1:
        raise ValueError(
            f"`lsuv(samples=...)` must be an integer >= 1. Received: samples={samples!r}."
        )


class _Pass:
    """One forward pass that corrects each layer at its first call.

    Args:
        model: The model.
        owners: The layers that own its kernels.
        start: The scheme that draws kernels before they are scaled, or None.
        correct: Returns the correction of a layer, given its pre-activations.
        progress: Is told before each layer.
    """

    def __init__(
        self,
        model: Any,
        owners: Sequence[Owner],
        start: Orthogonal | None,
        correct: Callable[[Owner, Any], Correction],
        progress: Progress,
    ) -> None:
        self._model, self._owners, self._start = model, owners, start
        self._correct, self._progress = correct, progress
        self._settable = [owner for owner in owners if not _reason_to_leave(owner)]
        self._rows: dict[int, list[Change]] = {}
        self._repeated: set[int] = set()

    def run(self, batch: Any) -> list[Change]:
        """Return one row for each kernel: the layers in the order of their calls, then others."""
        kernels = {id(kernel.variable) for owner in self._owners for kernel in owner.kernels}
        biases = {id(owner.bias) for owner in self._owners}
        # Seeds, and statistics that a layer of the user may update.
        others = [
            (variable, copy_of(variable))
            for variable in self._model.non_trainable_variables
            if id(variable) not in kernels | biases
        ]
        distributed = [
            layer
            for layer in self._model._flatten_layers()
            if isinstance(layer, keras.layers.TimeDistributed)
        ]
        replacements: dict[Any, Any] = {owner.layer: self._hook(owner) for owner in self._settable}
        with intercepted(
            {layer: _all_times_at_once(layer) for layer in distributed} | replacements
        ):
            self._model(batch, training=False)
        for variable, value in others:
            variable.assign(value)
        if not any(row.was_set for rows in self._rows.values() for row in rows):
            raise ValueError(
                "`lsuv` needs a layer whose outputs vary on the batch. Received: "
                + ("constant outputs." if self._rows else "no layer that it can set.")
            )
        return [*self._rows_of_calls(), *self._rows_of_others()]

    def _hook(self, owner: Owner) -> Callable[..., Any]:
        def call_corrected(call: Any, *args: Any, **kwargs: Any) -> Any:
            if id(owner.layer) in self._rows:
                self._repeated.add(id(owner.layer))
                return call(*args, **kwargs)
            self._progress.reach(owner.name, len(self._rows) + 1, len(self._settable))
            with activation_removed(owner.layer) as activation:
                outputs = self._corrected_outputs(owner, lambda: call(*args, **kwargs))
            return outputs if activation is None else activation(outputs)

        return call_corrected

    def _corrected_outputs(self, owner: Owner, call: Callable[[], Any]) -> Any:
        kernels = [kernel.variable for kernel in owner.kernels]
        with variables_as_stored():
            stddevs = [stddev(variable) for variable in kernels]
            before = [copy_of(variable) for variable in kernels]
            if self._start is not None:
                self._draw(owner, self._start)
        outputs = call()
        with variables_as_stored():
            correction = self._correct(owner, outputs)
            if correction.refusal:
                for variable, value in zip(kernels, before, strict=True):
                    variable.assign(value)
                self._note(owner, [""] * len(kernels), correction.refusal, stddevs)
            else:
                self._apply(owner, correction, stddevs)
        # Scaled outputs would differ from these by rounding, which a deep network amplifies.
        return call()

    def _apply(self, owner: Owner, correction: Correction, stddevs: Sequence[Any]) -> None:
        for kernel, factor in zip(owner.kernels, correction.kernel_factors, strict=True):
            value = keras.ops.cast(kernel.variable.value, "float32")
            kernel.variable.assign(keras.ops.multiply(value, np.asarray(factor, np.float32)))
        if correction.bias is not None:
            owner.bias.assign(correction.bias)
        drawn = "orthogonal " if self._start is not None else ""
        changes = [f"{drawn}x {_shown(factor)}" for factor in correction.kernel_factors]
        self._note(owner, changes, correction.reason, stddevs)

    def _draw(self, owner: Owner, start: Orthogonal) -> None:
        for number, (_, variable, use) in enumerate(owner.kernels, owner.number):
            assert use is not None
            shape = tuple(variable.shape)
            scheme = bound_to(start, use, shape).for_block(number)
            draw(variable, scheme)

    def _note(
        self, owner: Owner, changes: Sequence[str], reason: str, stddevs: Sequence[float | None]
    ) -> None:
        self._rows[id(owner.layer)] = [
            Change(owner.name, kernel.name, change, reason, before, stddev(kernel.variable))
            for kernel, change, before in zip(owner.kernels, changes, stddevs, strict=True)
        ]

    def _rows_of_calls(self) -> list[Change]:
        rows = []
        for layer, of_layer in self._rows.items():
            suffix = "; its first call counts" if layer in self._repeated else ""
            for row in of_layer:
                rows.append(Change(**{**vars(row), "reason": row.reason + suffix}))
        return rows

    def _rows_of_others(self) -> list[Change]:
        rows = []
        for owner in self._owners:
            if id(owner.layer) not in self._rows:
                for kernel in owner.kernels:
                    value = stddev(kernel.variable)
                    reason = _reason_to_leave(owner) or "not called"
                    rows.append(Change(owner.name, kernel.name, "", reason, value, value))
        return rows


def _reason_to_leave(owner: Owner) -> str:
    if owner.refusal:
        return owner.refusal
    if owner.is_recurrent:
        return "runs in a loop over time"
    return "a look-up has no pre-activation" if owner.is_look_up else ""


def _all_times_at_once(layer: Any) -> Callable[..., Any]:
    return lambda call, *args, **kwargs: call_all_times_at_once(layer, *args, **kwargs)


def _shown(factor: float | Array) -> str:
    if isinstance(factor, float):
        return f"{factor:.4g}"
    return f"{factor.min():.4g} to {factor.max():.4g}"
