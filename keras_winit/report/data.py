"""The batch of a report: the first one of the user's data, or random inputs."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_winit.models.batches import as_arrays, first_batch

# Limits of the number of samples, and of the numbers in all inputs together, if the user does
# not say how many samples to take.
MOST_SAMPLES, LEAST_SAMPLES, MOST_NUMBERS = 256, 8, 2**18

# Limit of the numbers in all random inputs together: 4 GiB of float32.
MOST_RANDOM_NUMBERS = 2**30

# Length of axes whose size varies, such as timesteps, in random inputs.
VARYING_LENGTH = 16

# Random integers lie below this number where no embedding says how many there are.
FEW_INTEGERS = 2


def report_batch(model: Any, data: Any, y: Any, samples: int | None, seed: int) -> tuple[Any, Any]:
    """Return the inputs and the targets of the report, as tensors; None where there are none.

    Args:
        model: Model that takes the inputs.
        data: As `signal_report` takes it.
        y: Targets, or None.
        samples: Number of samples. None: as many as are cheap.
        seed: Seed of random inputs.
    """
    if data is None:
        return keras.tree.map_structure(tensor, random_inputs(model, samples, seed)), None
    if isinstance(data, Iterator):
        raise TypeError(
            "`signal_report(data=...)` must be a batch or a data set: it would take a batch away "
            f"from an iterator. Received: data={data!r}. Pass `next(data)`."
        )
    x, targets = first_batch(data) or (as_arrays(data), None)
    y = targets if y is None else y
    shapes = [np.shape(leaf) for leaf in keras.tree.flatten(x)]
    if not shapes or any(not shape or 0 in shape for shape in shapes):
        raise ValueError(
            f"`signal_report(data=...)` must hold at least one sample. Received: shapes={shapes!r}."
        )
    count = _samples(samples, sum(math.prod(shape[1:]) for shape in shapes))

    def first(leaf: Any) -> Any:
        return None if leaf is None else tensor(as_arrays(leaf)[:count])

    return keras.tree.map_structure(first, x), keras.tree.map_structure(first, y)


def tensor(leaf: Any) -> Any:
    """Return a leaf of the data as a tensor; numpy's floats of 64 bits as Keras' floats."""
    if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64:
        leaf = leaf.astype(keras.config.floatx())
    return ops.convert_to_tensor(leaf)


def _samples(samples: int | None, numbers: int) -> int:
    if samples is not None:
        return samples
    return min(max(MOST_NUMBERS // max(numbers, 1), LEAST_SAMPLES), MOST_SAMPLES)


def random_inputs(model: Any, samples: int | None, seed: int) -> Any:
    """Return inputs from N(0, 1), or random integers for inputs that an embedding looks up."""
    specs = input_specs(model)
    flat = keras.tree.flatten(specs)
    sizes = [[VARYING_LENGTH if n is None else n for n in spec.shape[1:]] for spec in flat]
    count = _samples(samples, sum(math.prod(size) for size in sizes))
    if flat and flat[0].shape[0] is not None and samples is None:
        count = flat[0].shape[0]
    if count * sum(map(math.prod, sizes)) > MOST_RANDOM_NUMBERS:
        raise ValueError(
            f"`signal_report` makes at most {MOST_RANDOM_NUMBERS} random inputs. Received: "
            f"shapes={[(count, *size) for size in sizes]}. Pass a batch, or fewer `samples`."
        )
    generator = np.random.default_rng(seed)

    def draw(spec: Any) -> Any:
        shape = (count, *(VARYING_LENGTH if n is None else n for n in spec.shape[1:]))
        rows = looked_up_rows(model, spec)
        if rows is not None or "int" in spec.dtype:
            return generator.integers(0, rows or FEW_INTEGERS, shape).astype("int32")
        if spec.dtype == "bool":
            return generator.integers(0, 2, shape).astype("bool")
        return generator.standard_normal(shape, "float32")

    return keras.tree.map_structure(draw, specs)


def looked_up_rows(model: Any, spec: Any) -> int | None:
    """Return the number of rows of the embedding that looks an input up; None if there is none.

    An input may be declared as floats all the same.
    """
    if not getattr(model, "inputs", None):
        own = [layer for layer in model._flatten_layers(include_self=False) if layer.weights]
        is_embedded = bool(own) and isinstance(own[0], keras.layers.Embedding)
        return own[0].input_dim if is_embedded else None
    users = list(_users(model, spec))
    embeddings = [user for user in users if isinstance(user, keras.layers.Embedding)]
    inner = [user for user in users if isinstance(user, keras.Model)]
    rows = [layer.input_dim for layer in embeddings]
    rows += filter(None, (looked_up_rows(one, one.inputs[0]) for one in inner if one.inputs))
    return min(rows, default=None)


def _users(model: Any, spec: Any) -> Iterator[Any]:
    """Yield the operations of a functional model that take one of its inputs."""
    functional = getattr(model, "_functional", None) or model
    for nodes in functional._nodes_by_depth.values():
        for node in nodes:
            if not node.is_input and any(spec is one for one in node.input_tensors):
                yield node.operation


def input_specs(model: Any) -> Any:
    """Return the symbolic inputs of a model, in the structure in which it takes them."""
    if getattr(model, "inputs", None):
        functional = getattr(model, "_functional", None) or model
        return functional._inputs_struct
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if len(shapes) != 1:
        raise ValueError(
            "`signal_report` cannot tell what inputs this model takes. Received: "
            f"{model.name!r}, data=None. Pass a batch, `signal_report(model, data)`."
        )
    (shape,) = shapes.values()
    return keras.tree.map_shape_structure(lambda one: keras.KerasTensor(one), shape)
