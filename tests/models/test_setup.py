"""The setup of a compiled model can be read before the model sees data."""

import functools

import keras
import pytest
from keras import layers, ops
from support.setups import setup_of, stack

from keras_winit.models.losses import LossSetup, output_losses

pytestmark = pytest.mark.backend_independent

losses = keras.losses
Dense = layers.Dense

# A function from the inputs of a model to its output, and its last activation and units.
ENDS = {
    "own activation": (lambda x: Dense(3, "softmax")(x), ("softmax", 3)),
    "none": (lambda x: Dense(3)(x), ("linear", 3)),
    "layer of its own": (lambda x: layers.Activation("sigmoid")(Dense(1)(x)), ("sigmoid", 1)),
    "softmax layer": (lambda x: layers.Softmax()(Dense(3)(x)), ("softmax", 3)),
    "operation": (lambda x: ops.softmax(Dense(3)(x)), ("softmax", 3)),
    "last axis by number": (lambda x: layers.Softmax(axis=1)(Dense(3)(x)), ("softmax", 3)),
    "function": (lambda x: keras.activations.sigmoid(Dense(2)(x)), ("sigmoid", 2)),
    "relu layer": (lambda x: layers.ReLU()(Dense(2)(x)), ("relu", 2)),
    "linear after softmax": (
        lambda x: layers.Activation("linear", dtype="float32")(Dense(3, "softmax")(x)),
        ("softmax", 3),
    ),
    "cast": (lambda x: ops.cast(Dense(3, "softmax")(x), "float32"), ("softmax", 3)),
    "one unit squeezed": (lambda x: ops.squeeze(Dense(1, "sigmoid")(x), -1), ("sigmoid", 1)),
    "reshaped to a vector": (
        lambda x: layers.Reshape((1, 3))(Dense(3, "softmax")(x)),
        ("softmax", 3),
    ),
    # The last activation of these models is unknown.
    "reshaped otherwise": (lambda x: layers.Reshape((3, 2))(Dense(6, "softmax")(x)), (None, 2)),
    "own function": (lambda x: Dense(3, lambda z: z * 2)(x), (None, 3)),
    "product": (lambda x: Dense(3, "softmax")(x) * 2.0, (None, 3)),
    "lambda": (lambda x: layers.Lambda(lambda z: z)(Dense(3)(x)), (None, 3)),
    "recurrent": (lambda x: layers.LSTM(3)(layers.Reshape((8, 1))(x)), (None, 3)),
}


@pytest.mark.parametrize("name", ENDS)
def test_last_activation(name):
    inputs = keras.Input((8,))
    make, expected = ENDS[name]
    (end,) = setup_of(keras.Model(inputs, make(inputs))).outputs
    assert (end.activation, end.units) == expected


def test_softmax_over_another_axis_is_not_one_over_units():
    model = stack(Dense(4), layers.Softmax(axis=1), inputs=(5, 8))
    assert setup_of(model).outputs[0].activation is None


def test_last_activation_over_time():
    model = stack(layers.TimeDistributed(Dense(4, "softmax")), inputs=(5, 8))
    (end,) = setup_of(model).outputs
    assert (end.activation, end.units) == ("softmax", 4)


class Own(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(y_pred, -1)


class OwnBinary(losses.BinaryCrossentropy):
    def call(self, y_true, y_pred):
        return -super().call(y_true, y_pred)


LOSSES = {
    "string": ("binary_crossentropy", LossSetup("binary_crossentropy")),
    "short string": ("mse", LossSetup("mean_squared_error")),
    "class name": ("BinaryCrossentropy", LossSetup("binary_crossentropy")),
    "function": (losses.categorical_crossentropy, LossSetup("categorical_crossentropy")),
    "instance": (
        losses.CategoricalCrossentropy(from_logits=True),
        LossSetup("categorical_crossentropy", True),
    ),
    "ignored class": (
        losses.SparseCategoricalCrossentropy(ignore_class=-1),
        LossSetup("sparse_categorical_crossentropy", ignored_class=-1),
    ),
    "partial": (
        functools.partial(losses.binary_crossentropy, from_logits=True),
        LossSetup("binary_crossentropy", True),
    ),
    "list": ([losses.Huber()], LossSetup("huber")),
    "own function": (lambda y, p: ops.mean(p - y), None),
    "own class": (Own(), None),
    "own subclass": (OwnBinary(), None),
    "chosen by Keras": ("crossentropy", None),
    "none": (None, None),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_a_single_output(name):
    loss, expected = LOSSES[name]
    model = stack(Dense(2))
    model.compile("sgd", loss)
    assert output_losses(model) == (expected,)


def two_outputs(as_dict=False, order=("a", "b")):
    inputs = keras.Input((4,))
    ends = {"a": Dense(3, "softmax", name="a")(inputs), "b": Dense(1, name="b")(inputs)}
    return keras.Model(inputs, ends if as_dict else [ends[name] for name in order])


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("kind", ["dict", "list"])
def test_losses_of_two_outputs(as_dict, kind):
    model = two_outputs(as_dict)
    named = {"b": "mse", "a": losses.CategoricalCrossentropy()}
    model.compile("sgd", named if kind == "dict" else [named["a"], named["b"]])
    a, b = setup_of(model).outputs
    assert (a.layer, a.loss, a.target) == ("a", LossSetup("categorical_crossentropy"), "target")
    assert (b.layer, b.loss, b.target) == ("b", LossSetup("mean_squared_error"), "target:1")


def test_targets_are_uncertain_if_the_order_of_outputs_is_not_that_of_names():
    model = two_outputs(order=("b", "a"))
    model.compile("sgd", {"a": "categorical_crossentropy", "b": "mse"})
    first, second = setup_of(model).outputs
    assert (first.layer, first.loss) == ("b", LossSetup("mean_squared_error"))
    assert first.target is second.target is None


def test_a_model_with_its_own_loss_has_no_known_loss():
    class Model(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs)

    inputs = keras.Input((4,))
    model = Model(inputs, Dense(2)(inputs))
    model.compile("sgd", "mse")
    assert output_losses(model) == (None,)


def test_a_model_that_cannot_be_traced_has_no_outputs_but_other_facts():
    class Untraceable(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.dropout = Dense(1, "softmax"), layers.Dropout(0.9, name="drop")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dropout(self.dense(x)) if float(ops.sum(x)) > 0 else x

    model = Untraceable()
    model.build((2, 3))
    setup = setup_of(model)
    assert setup.outputs == setup.linear_pairs == ()
    assert dict(setup.dropout_rates) == {"drop": 0.9}
    assert setup.trainable_count == 2


def test_dropout_rates_of_all_kinds_of_layers():
    inputs = keras.Input((6, 8))
    x = layers.SpatialDropout1D(0.1, name="spatial")(inputs)
    x = layers.LSTM(4, return_sequences=True, recurrent_dropout=0.2, name="lstm")(x)
    x = layers.MultiHeadAttention(2, 4, dropout=0.3, name="attention")(x, x)
    x = layers.GaussianDropout(0.4, name="gaussian")(x)
    rates = setup_of(keras.Model(inputs, x)).dropout_rates
    named = {name: rate for name, rate in rates.items() if "/" not in name}
    assert named == {"spatial": 0.1, "lstm": 0.2, "attention": 0.3, "gaussian": 0.4}


def test_learning_rates_of_schedules_and_wrapped_optimizers():
    optimizers = keras.optimizers
    model = stack(Dense(2))
    model.compile(optimizers.LossScaleOptimizer(optimizers.SGD(0.5)), "mse")
    assert setup_of(model).learning_rates == {0: 0.5}
    warm_up = optimizers.schedules.CosineDecay(0.0, 1000, warmup_target=1.0, warmup_steps=100)
    model.compile(optimizers.SGD(warm_up), "mse")
    rates = setup_of(model).learning_rates
    assert rates[0] == 0
    assert rates[50] == pytest.approx(0.5, abs=0.01)
    assert rates[100] == pytest.approx(1.0, abs=0.01)
