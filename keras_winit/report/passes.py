"""Runs a model forward and backward once, on each backend, without changing it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit import statistics
from keras_winit.models.restored_state import generators_restored
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.patches import classify_activations
from keras_winit.monitor.capture.traces import is_measurable
from keras_winit.report.collector import ReportCollector, collecting


@dataclass(frozen=True)
class Pass:
    """A model, the batch that it takes, and how it runs.

    Args:
        model: Built model.
        x: Inputs, as tensors.
        y: Targets, as tensors. None if there are none.
        training: Whether it runs in training mode.
        seed: Seed of the cotangents.
    """

    model: Any
    x: Any
    y: Any
    training: bool
    seed: int

    def outputs(self) -> Any:
        """Call the model as training does."""
        has_argument = getattr(self.model, "_call_has_training_arg", False)
        return self.model(self.x, training=self.training) if has_argument else self.model(self.x)

    def cotangents(self, outputs: list[Any]) -> list[Any]:
        """Return a tensor from N(0, 1) for each output, the same on each backend."""
        generator = np.random.default_rng([self.seed, 1])
        return [
            ops.convert_to_tensor(generator.standard_normal(tuple(output.shape), "float32"))
            for output in outputs
        ]


@dataclass(frozen=True)
class MeasuredPass:
    """The measurements of one pass, on the device.

    Args:
        outputs: What the model returned.
        packed: Packed vector of the rows and the variables, see `monitor.capture.layout`.
        cosines: Mean cosine of each row.
        unit_sums: Sums of the units of each row, and their norm.
        gradient_norms: Norm of the gradient of each row that has one.
        sizes: Number of entries of each of these rows.
    """

    outputs: Any
    packed: Any
    cosines: dict[str, Any]
    unit_sums: dict[str, tuple[Any, Any]]
    gradient_norms: dict[str, Any]
    sizes: dict[str, int]


def run(one_pass: Pass, capture: Capture) -> MeasuredPass:
    """Run the model forward and backward, and measure the outputs of all layers."""
    backend = keras.backend.backend()
    classify_activations(one_pass.model, [capture])
    runner = {"tensorflow": _on_tensorflow, "torch": _on_torch, "jax": _on_jax}[backend]
    with generators_restored():
        return runner(one_pass, capture)


@contextlib.contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Discard all that the model assigns to its variables, and the penalties it collects."""
    losses = [(layer, list(layer._losses)) for layer in model._flatten_layers()]
    try:
        with keras.StatelessScope():
            yield
    finally:
        for layer, before in losses:
            layer._losses[:] = before


def differentiable(outputs: Any) -> list[Any]:
    """Return the outputs that a gradient can start from."""
    return [leaf for leaf in keras.tree.flatten(outputs) if is_measurable(leaf)]


def _inner_product(outputs: list[Any], cotangents: list[Any]) -> Any:
    return sum(
        ops.sum(ops.cast(output, "float32") * cotangent)
        for output, cotangent in zip(outputs, cotangents, strict=True)
    )


def _on_tensorflow(one_pass: Pass, capture: Capture) -> MeasuredPass:
    import tensorflow as tf

    class Watching(ReportCollector):
        def as_source(self, value: Any) -> Any:
            value = super().as_source(value)
            if self.sources and self.sources[-1] is value:
                tape.watch(value)
            return value

    collector, variables = Watching(capture), one_pass.model.trainable_variables
    with _untouched(one_pass.model), tf.GradientTape() as tape:
        with collecting(one_pass.model, collector):
            outputs = one_pass.outputs()
        ends = differentiable(outputs)
        product = _inner_product(ends, one_pass.cotangents(ends))
    # Within the scope of a `MirroredStrategy`, only the copy of one replica has gradients.
    copies = tf.distribute.get_strategy().experimental_local_results
    sources = [*collector.sources, *(copies(variable.value)[0] for variable in variables)]
    gradients = tape.gradient(product, sources) if ends else [None] * len(sources)
    gradients = [
        tf.convert_to_tensor(one) if isinstance(one, tf.IndexedSlices) else one for one in gradients
    ]
    return _measured_pass(one_pass, collector, outputs, gradients)


def _on_torch(one_pass: Pass, capture: Capture) -> MeasuredPass:
    import torch

    collector, variables = ReportCollector(capture), one_pass.model.trainable_variables
    with _untouched(one_pass.model), torch.enable_grad():
        with collecting(one_pass.model, collector):
            outputs = one_pass.outputs()
        ends = differentiable(outputs)
        product = _inner_product(ends, one_pass.cotangents(ends))
    sources = [*collector.sources, *(variable.value for variable in variables)]
    gradients: list[Any] = [None] * len(sources)
    if ends and product.requires_grad:
        known = [place for place, source in enumerate(sources) if source.requires_grad]
        found = torch.autograd.grad(product, [sources[place] for place in known], allow_unused=True)
        for place, gradient in zip(known, found, strict=True):
            gradients[place] = gradient
    with torch.no_grad():
        return _measured_pass(one_pass, collector, outputs, gradients)


def _on_jax(one_pass: Pass, capture: Capture) -> MeasuredPass:
    return JaxRunner(one_pass, capture).run()


class JaxRunner:
    """Runs a pass on JAX in compiled functions: operation by operation it takes far longer.

    One function runs forward and backward. What it returns is measured in others, one for all
    rows of a kind: in the same function the measurements would take most of the time to compile.

    Args:
        one_pass: The pass to run.
        capture: What to capture.
    """

    def __init__(self, one_pass: Pass, capture: Capture) -> None:
        self._pass, self._capture, self._model = one_pass, capture, one_pass.model
        # Layer, name and activation of each row, and what else is known once it is traced.
        self._rows: list[tuple[Any, str, Any]] = []
        self._places: dict[str, int] = {}
        self._hidden: set[str] = set()
        self._sizes: dict[str, int] = {}

    def run(self) -> MeasuredPass:
        """Run the pass."""
        import jax

        model, x = self._model, self._pass.x
        trainable = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        outputs, sources = jax.eval_shape(self._shapes, trainable, others, x)
        probes = [np.zeros(source.shape, source.dtype) for source in sources]
        cotangents = self._pass.cotangents(differentiable_shapes(outputs))
        both_ways = jax.jit(jax.grad(self._product_of_pass, argnums=(0, 1), has_aux=True))
        (of_variables, of_rows), (outputs, tensors) = both_ways(
            trainable, probes, others, x, cotangents
        )
        collector = self._new_collector()
        compiled: dict[Any, Any] = {}
        for (layer, name, activation), (tensor, mask, z) in zip(self._rows, tensors, strict=True):
            collector.measure_compiled(compiled, (layer, name, tensor, mask, activation, z))
        packed, norms = jax.jit(lambda *arguments: self._finish(collector.rows, *arguments))(
            trainable, [*of_rows, *of_variables], collector.measured, self._pass.y
        )
        found = collector.cosines, collector.unit_sums, norms, self._sizes
        return MeasuredPass(outputs, packed, *found)

    def _forward(self, trainable: Any, others: Any, probes: Any, x: Any) -> Any:
        collector = ReportCollector(self._capture, probes=probes, postpone=True)
        has_argument = getattr(self._model, "_call_has_training_arg", False)
        options = {"training": self._pass.training} if has_argument else {}
        with collecting(self._model, collector):
            # `stateless_call` bypasses the model's own `__call__`.
            collector.notify("collect_inputs", x)
            outputs, _ = self._model.stateless_call(trainable, others, x, **options)
        return outputs, collector

    def _shapes(self, trainable: Any, others: Any, x: Any) -> Any:
        outputs, collector = self._forward(trainable, others, (), x)
        return outputs, collector.sources

    def _product_of_pass(
        self, trainable: Any, probes: Any, others: Any, x: Any, cotangents: Any
    ) -> Any:
        outputs, collector = self._forward(trainable, others, probes, x)
        rows = collector.postponed or []
        self._rows = [(layer, name, activation) for layer, name, _, _, activation, _ in rows]
        self._places, self._hidden = collector.places, collector.hidden
        tensors = [(tensor, mask, z) for _, _, tensor, mask, _, z in rows]
        return _inner_product(differentiable(outputs), cotangents), (outputs, tensors)

    def _finish(self, rows: Any, values: Any, gradients: Any, measured: Any, y: Any) -> Any:
        collector = self._new_collector()
        collector.rows, collector.measured = dict(rows), measured
        result = _measured_pass(replace(self._pass, y=y), collector, None, gradients, values)
        self._sizes = result.sizes
        return result.packed, result.gradient_norms

    def _new_collector(self) -> ReportCollector:
        collector = ReportCollector(self._capture, careful=True)
        collector.places, collector.hidden = self._places, self._hidden
        return collector


def differentiable_shapes(outputs: Any) -> list[Any]:
    """Return the shapes of the outputs that a gradient can start from."""
    return [
        leaf
        for leaf in keras.tree.flatten(outputs)
        if len(getattr(leaf, "shape", ())) and "float" in str(leaf.dtype)
    ]


def _measured_pass(
    one_pass: Pass,
    collector: ReportCollector,
    outputs: Any,
    gradients: list[Any],
    values: Any = None,
) -> MeasuredPass:
    """Measure gradients and variables, and pack everything.

    Args:
        one_pass: The pass that ran.
        collector: What it collected.
        outputs: What the model returned.
        gradients: Those of the collector's sources, then those of the trainable variables.
        values: Values of the trainable variables. None: those that they hold.
    """
    variables = one_pass.model.trainable_variables
    values = [variable.value for variable in variables] if values is None else values
    count = len(gradients) - len(variables)
    collector.notify(
        "collect_updates",
        [
            (variable, ops.stop_gradient(value), gradient, ops.stop_gradient(value))
            for variable, value, gradient in zip(variables, values, gradients[count:], strict=True)
        ],
    )
    if one_pass.y is not None:
        collector.notify("collect_targets", one_pass.y)
    of_rows = {
        name: gradients[place]
        for name, place in collector.places.items()
        if gradients[place] is not None
    }
    norms: dict[str, Any] = {}
    if of_rows:
        tensors = [ops.cast(gradient, "float32") for gradient in of_rows.values()]
        lengths, _, _ = statistics.norms(lambda: tensors, collector.careful)
        norms = dict(zip(of_rows, lengths, strict=True))
    return MeasuredPass(
        outputs=outputs,
        packed=collector.packed(collector.measured, None),
        cosines=collector.cosines,
        unit_sums=collector.unit_sums,
        gradient_norms=norms,
        sizes={name: int(np.prod(gradient.shape)) for name, gradient in of_rows.items()},
    )
