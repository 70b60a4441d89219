"""Models with one fault each, listed by the rule that finds it."""

import keras
import numpy as np
from keras import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
CLASSES = RNG.integers(0, 4, 64)
NUMBERS = (X @ RNG.normal(size=(8, 1)) / 3).astype("float32")
SPARSE, BINARY = "sparse_categorical_crossentropy", "binary_crossentropy"
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Dense = layers.Dense
Normal = keras.initializers.RandomNormal
# A bias with which the units of a rectifier are dead.
OFF = keras.initializers.Constant(-50.0)


def classifier(
    *hidden, end=(4, "softmax"), loss=SPARSE, optimizer="adam", init="winit>xavier_normal"
):
    """Return a compiled model; hidden layers are given by layers or by initializers."""
    first = hidden or ("winit>he_normal", "winit>he_normal")
    made = [
        one
        if isinstance(one, layers.Layer)
        else Dense(32, "relu", kernel_initializer=one, name=f"d{number}")
        for number, one in enumerate(first)
    ]
    head = Dense(*end, kernel_initializer=init, name="head")
    model = keras.Sequential([keras.Input((8,)), *made, head])
    model.compile(optimizer, loss)
    return model


def regression(*hidden, end=(1, None), **options):
    return classifier(*hidden, end=end, loss="mse", **options)


def frozen():
    model = classifier()
    model.trainable = False
    model.compile("adam", SPARSE)
    return model


def double_softmax():
    hidden = Dense(4, "softmax", name="first")
    model = keras.Sequential([keras.Input((8,)), hidden, layers.Softmax(name="second")])
    model.compile("adam", SPARSE)
    return model


def normalized_small_kernel():
    tiny = Dense(32, kernel_initializer=Normal(stddev=1e-7), use_bias=False, name="tiny")
    return classifier(
        *("winit>he_normal", tiny, layers.LayerNormalization(epsilon=1e-20), "he_normal"),
        optimizer=keras.optimizers.SGD(1e-20),
    )


def with_nan(array):
    array = array.copy()
    array[3] = np.nan
    return array


def dead_output():
    model = regression(end=(1, "relu"))
    model.get_layer("head").bias.assign([-50.0])
    return model


def dead_branch():
    """Return a model in which the gradient of two layers ends at dead units."""
    inputs = keras.Input((8,))
    hidden = Dense(16, "relu", kernel_initializer="he_normal", name="before")(inputs)
    hidden = Dense(16, "relu", bias_initializer=OFF, name="dead")(hidden)
    outputs = Dense(4, "softmax", name="head")(layers.Concatenate()([inputs, hidden]))
    model = keras.Model(inputs, outputs)
    model.compile("adam", SPARSE)
    return model


NEGATIVE = Normal(-0.3, 0.05)

# For each rule, a function that makes a model with the fault, its inputs and its targets.
CASES = {
    "non_finite": (regression, with_nan(X), NUMBERS),
    "nothing_trainable": (frozen, X, CLASSES),
    "learning_rate": (lambda: classifier(optimizer=keras.optimizers.Adam(-1.0)), X, CLASSES),
    "one_unit_softmax": (
        lambda: classifier(end=(1, "softmax"), loss=BINARY),
        X,
        (CLASSES[:, None] > 1).astype("float32"),
    ),
    "loss_mismatch": (lambda: classifier(loss=LOGITS), X, CLASSES),
    "target_range": (lambda: regression(end=(1, "tanh")), X, 10 + NUMBERS),
    "double_softmax": (double_softmax, X, CLASSES),
    "no_activation": (lambda: classifier(Dense(32, name="plain"), "he_normal"), X, CLASSES),
    "high_dropout": (lambda: classifier("he_normal", layers.Dropout(0.9)), X, CLASSES),
    "equal_kernels": (
        lambda: classifier("he_normal", *[Normal(stddev=0.25, seed=1)] * 2),
        X,
        CLASSES,
    ),
    "constant_units": (lambda: classifier("he_normal", "ones"), X, CLASSES),
    "symmetric_units": (lambda: classifier("zeros", "zeros", init="zeros"), X, CLASSES),
    "input_scale": (classifier, 100 * X, CLASSES),
    "target_scale": (regression, X, 1e6 * NUMBERS),
    "wrong_init_for_activation": (
        lambda: classifier("he_normal", "winit>small_normal"),
        X,
        CLASSES,
    ),
    "vanishing_forward": (lambda: classifier(*["winit>small_normal"] * 5), X, CLASSES),
    "exploding_forward": (lambda: classifier(*[Normal(stddev=2.0)] * 5), X, CLASSES),
    "vanishing_backward": (lambda: classifier(*["winit>small_normal"] * 8), X, CLASSES),
    "exploding_backward": (normalized_small_kernel, X, CLASSES),
    "dead_units": (lambda: classifier("he_normal", NEGATIVE), X, CLASSES),
    "saturated": (
        lambda: classifier(
            "he_normal", Dense(32, "tanh", kernel_initializer="winit>large_normal", name="flat")
        ),
        X,
        CLASSES,
    ),
    "dead_output": (dead_output, X, NUMBERS**2),
    "bad_initial_loss": (lambda: classifier(init=Normal(stddev=30.0)), X, CLASSES),
    "constant_output": (
        lambda: classifier(Dense(16, "relu", bias_initializer=OFF, name="same")),
        X,
        CLASSES,
    ),
    "update_too_large": (
        lambda: classifier(optimizer=keras.optimizers.Adam(3.0)),
        X,
        CLASSES,
    ),
    "update_frozen": (dead_branch, X, CLASSES),
    "nothing_learns": (lambda: classifier(optimizer=keras.optimizers.SGD(1e-6)), X, CLASSES),
}
