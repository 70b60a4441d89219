"""Faulty programs whose weights, layers or activations keep them from learning."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.initializers import Constant, HeNormal, RandomNormal, RandomUniform
from keras.layers import LSTM, Conv2D, Dense, Dropout, Embedding, Flatten, Input, SimpleRNN
from keras.optimizers import SGD, Adam

from diagnosis_cases.foreign import LONG, compiled, faulty_into
from diagnosis_cases.foreign_data import clusters, images, made, regression, tokens, waves
from diagnosis_cases.foreign_fine_tuning import image_base

CASES = []
faulty = faulty_into(CASES)
TEN, PIXELS = made(clusters), made(images)
COLORS = made(images, channels=3, scale="-1..1")
SPARSE = "sparse_categorical_crossentropy"
EQUAL, INIT = "constant_units symmetric_units", "wrong_init_for_activation"


def classifier(optimizer, *hidden, features=20):
    model = Sequential([Input((features,)), *hidden, Dense(10, activation="softmax")])
    return compiled(model, optimizer, SPARSE, metrics=["accuracy"])


def weights(name, rules, data=TEN, **options):
    return faulty("weights", name, rules, data, **options)


def hidden_layers(initializer, activation="relu", count=2, width=64):
    """Return dense layers, each with an initializer of its own."""
    return [Dense(width, activation, kernel_initializer=initializer()) for _ in range(count)]


@weights("zeros in all layers", EQUAL)
def zeros():
    hidden = [Dense(64, activation="relu", kernel_initializer="zeros") for _ in range(2)]
    model = Sequential([Input((20,)), *hidden])
    model.add(Dense(10, activation="softmax", kernel_initializer="zeros"))
    return compiled(model, SGD(0.1), SPARSE)


@weights("zeros in an LSTM", EQUAL, made(waves, length=8))
def zeros_lstm():
    start = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    model = Sequential([Input((8, 2)), LSTM(16, **start), Dense(3, activation="softmax")])
    return compiled(model, "adam", SPARSE)


@weights("ones in all layers", EQUAL)
def ones():
    return classifier("adam", *[Dense(32, "tanh", kernel_initializer="ones") for _ in range(2)])


@weights("constants in a CNN", EQUAL, PIXELS)
def constants():
    start = {"kernel_initializer": Constant(0.1)}
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu", **start)])
    model.add(Conv2D(16, 3, activation="relu", **start))
    model.add(Flatten())
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@weights("normal with stddev 10", INIT)
def huge_normal():
    return classifier("adam", *hidden_layers(lambda: RandomNormal(stddev=10.0)))


@weights("normal with stddev 1, tanh, four layers", INIT)
def unit_normal():
    return classifier("sgd", *hidden_layers(lambda: RandomNormal(stddev=1.0), "tanh", 4))


@weights("normal with stddev 1e-4, five layers", INIT)
def tiny_normal():
    return classifier("sgd", *hidden_layers(lambda: RandomNormal(stddev=1e-4), "relu", 5))


@weights("uniform in 0..1", INIT)
def positive_uniform():
    return classifier("adam", *hidden_layers(lambda: RandomUniform(0.0, 1.0), "relu", 3))


@weights("set to numpy.random.rand", INIT)
def random_rand():
    model = classifier("adam", Dense(64, activation="sigmoid"), Dense(64, activation="sigmoid"))
    for layer in model.layers[:-1]:
        kernel, bias = layer.get_weights()
        layer.set_weights([np.random.rand(*kernel.shape), bias])  # noqa: NPY002
    return model


@weights("below zero before ReLU, images 0..1", f"{INIT} dead_units", PIXELS)
def negative_uniform():
    start = {"kernel_initializer": RandomUniform(-0.1, 0.0)}
    model = Sequential([Input((12, 12, 1)), Flatten(), Dense(64, activation="relu", **start)])
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@weights("recurrent kernel with stddev 1", INIT, made(waves, length=8))
def recurrent_normal():
    start = RandomNormal(stddev=1.0)
    model = Sequential([Input((8, 2)), SimpleRNN(48, recurrent_initializer=start)])
    model.add(Dense(3, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@weights("one initializer of seed 42 for all layers", "equal_kernels")
def shared_seed():
    init = HeNormal(seed=42)
    hidden = [Dense(64, activation="relu", kernel_initializer=init) for _ in range(3)]
    return classifier("adam", *hidden, features=20)


@weights("one unseeded initializer for all convolutions", "equal_kernels", COLORS)
def shared_instance():
    init = keras.initializers.GlorotUniform()
    inputs = Input((12, 12, 3))
    x = Conv2D(16, 3, activation="relu", padding="same", kernel_initializer=init)(inputs)
    for _ in range(2):
        x = Conv2D(16, 3, activation="relu", padding="same", kernel_initializer=init)(x)
    outputs = Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


def dead_or_saturated(name, rules, data=TEN, **options):
    return faulty("dead or saturated", name, rules, data, **options)


@dead_or_saturated("ReLU with biases of -10", "dead_units")
def dead_biases():
    hidden = Dense(64, activation="relu", bias_initializer=Constant(-10.0))
    return classifier("adam", Dense(64, activation="relu"), hidden)


@dead_or_saturated("CNN with biases of -5", "dead_units", PIXELS)
def dead_filters():
    dead = Conv2D(16, 3, activation="relu", bias_initializer=Constant(-5.0))
    model = Sequential([Input((12, 12, 1)), dead, Flatten(), Dense(10, activation="softmax")])
    return compiled(model, "adam", SPARSE)


@dead_or_saturated("tanh with biases of 6", "saturated")
def saturated_tanh():
    hidden = Dense(64, activation="tanh", bias_initializer=Constant(6.0))
    return classifier("adam", Dense(64, activation="tanh"), hidden)


@dead_or_saturated("sigmoid of values multiplied by 100", "saturated exploding_forward")
def saturated_sigmoid():
    inputs = Input((20,))
    x = Dense(64)(inputs)
    x = layers.Activation("sigmoid")(layers.Rescaling(100.0)(x))
    outputs = Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


DEEP = "vanishing_forward vanishing_backward"


@dead_or_saturated("twelve sigmoid layers", DEEP)
def deep_sigmoid():
    return classifier("adam", *[Dense(64, activation="sigmoid") for _ in range(12)])


@dead_or_saturated("twenty tanh layers of stddev 0.05", f"{DEEP} {INIT}")
def deep_tanh():
    return classifier("sgd", *hidden_layers(lambda: RandomNormal(stddev=0.05), "tanh", 20))


@dead_or_saturated("forty ReLU layers of Keras' default", f"{DEEP} {INIT}")
def deep_relu():
    return classifier("adam", *[Dense(32, activation="relu") for _ in range(40)])


@dead_or_saturated("twenty residual sums without normalization", "exploding_forward")
def deep_residual():
    inputs = Input((20,))
    x = Dense(64)(inputs)
    for _ in range(20):
        y = Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.add([x, Dense(64, kernel_initializer="he_normal")(y)])
    outputs = Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


def no_activation(name, data=TEN):
    return faulty("no activation", name, "no_activation", data)


@no_activation("Sequential of dense layers")
def no_activation_mlp():
    return classifier("adam", Dense(64), Dense(64))


@no_activation("linear by name, with dropout between")
def linear_mlp():
    linear = Dense(64, activation="linear")
    return classifier("adam", linear, Dropout(0.2), Dense(32, activation="linear"))


@no_activation("convolutions of a functional CNN", PIXELS)
def no_activation_cnn():
    inputs = Input((12, 12, 1))
    x = Conv2D(16, 3)(inputs)
    x = Conv2D(16, 3)(x)
    outputs = Dense(10, activation="softmax")(Flatten()(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


def frozen(name, data=TEN):
    return faulty("frozen", name, "nothing_trainable", data)


@frozen("model.trainable = False before compile")
def frozen_model():
    model = Sequential(
        [Input((20,)), Dense(64, activation="relu"), Dense(10, activation="softmax")]
    )
    model.trainable = False
    return compiled(model, "adam", SPARSE)


@frozen("all layers frozen after the head was added", COLORS)
def frozen_head():
    model = Sequential([image_base(), Dense(10, activation="softmax")])
    for layer in model.layers:
        layer.trainable = False
    return compiled(model, Adam(1e-3), SPARSE)


def dropout(name, data=TEN):
    return faulty("dropout", name, "high_dropout", data)


@dropout("0.9, meant as the share to keep")
def dropout_90():
    return classifier("adam", Dense(128, "relu"), Dropout(0.9), Dense(64, "relu"), Dropout(0.9))


@dropout("0.99 before the head of a CNN", PIXELS)
def dropout_99():
    model = Sequential([Input((12, 12, 1)), Conv2D(16, 3, activation="relu"), Flatten()])
    model.add(Dropout(0.99))
    model.add(Dense(10, activation="softmax"))
    return compiled(model, "adam", SPARSE)


@dropout("0.95 behind an LSTM", made(tokens, length=8))
def dropout_lstm():
    model = Sequential([Input((8,)), Embedding(200, 16), LSTM(16), Dropout(0.95)])
    model.add(Dense(2, activation="softmax"))
    return compiled(model, "adam", SPARSE)


def constant(name, rules, data=TEN, **options):
    return faulty("constant outputs", name, rules, data, **LONG, **options)


@constant(
    "layer normalization of a single feature", "constant_output vanishing_forward", regression
)
def normalized_feature():
    inputs = Input((8,))
    x = layers.LayerNormalization()(Dense(1)(Dense(32, activation="relu")(inputs)))
    return compiled(keras.Model(inputs, Dense(1)(x)), "adam", "mse")


class BatchMean(layers.Layer):
    """A mean over the axis of the samples in place of that of time."""

    def call(self, x):
        return ops.zeros_like(x[:, 0]) + ops.mean(x, axis=(0, 1), keepdims=True)[0]


@constant("a mean over the batch axis", "constant_output vanishing_forward", made(waves, length=8))
def batch_mean():
    inputs = Input((8, 2))
    x = BatchMean()(Dense(32, activation="relu")(inputs))
    outputs = Dense(3, activation="softmax")(Dense(16, activation="relu")(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


@faulty("no gradient", "hidden values rounded", "update_frozen vanishing_backward", TEN)
def rounded():
    inputs = Input((20,))
    x = layers.Lambda(ops.round)(Dense(64, activation="sigmoid")(inputs))
    outputs = Dense(10, activation="softmax")(Dense(32, activation="relu")(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)
