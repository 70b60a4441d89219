"""Healthy models, some with deliberate choices that look like faults."""

from functools import partial

import keras
import numpy as np
from keras import layers

from diagnosis_cases.base import Case, adam, case, sgd
from diagnosis_cases.networks import (
    HE,
    CustomDense,
    attention,
    cnn,
    head,
    mlp,
    normal,
    recurrent,
    residual,
    scheme,
    signal_times,
)


def healthy_cases():
    yield from dense()
    yield from other_architectures()
    yield from training_settings()
    yield from special_models()


def healthy(name, build, /, **options):
    return case("healthy", name, "", "", build, **options)


def dense():
    xavier = "winit>xavier_uniform"
    yield healthy("MLP He", mlp)
    yield healthy("MLP Glorot", mlp, init="glorot_uniform", depth=3)
    yield healthy("MLP tanh", mlp, init=xavier, activation="tanh")
    yield healthy("MLP sigmoid", mlp, init=xavier, activation="sigmoid", depth=2)
    yield healthy("MLP GELU", mlp, activation="gelu")
    yield healthy("MLP SELU", mlp, init="winit>lecun_normal", activation="selu")
    yield healthy("MLP SiLU", mlp, activation="silu")
    yield healthy("MLP leaky ReLU", mlp, activation="leaky_relu")
    series = {"data": "series", "shape": (32,)}
    yield healthy("MLP orthogonal, series", mlp, init="winit>orthogonal", **series)
    yield healthy("MLP 10 deep", mlp, depth=10)
    yield healthy("MLP 20 deep, 128 wide", mlp, depth=20, width=128)
    yield healthy("MLP 20 deep, tanh", mlp, init="winit>orthogonal", activation="tanh", depth=20)
    sparse = scheme("winit>sparse", stddev=0.4)
    yield healthy("MLP sparse", mlp, init=sparse, activation="tanh")
    yield healthy("MLP narrow", mlp, width=12, depth=2)
    yield healthy("MLP wide", mlp, width=512, depth=2)
    yield healthy("MLP with a custom layer", mlp, after={1: lambda name: CustomDense(name=name)})
    yield healthy("zero head", mlp, make_head=partial(head, "zeros"))
    yield healthy("small biases", mlp, biases=dict.fromkeys(range(5), 0.1))
    yield healthy("dropout", mlp, depth=3, dropout=0.5)


def other_architectures():
    yield healthy("CNN", cnn)
    yield healthy("CNN tanh", cnn, init="winit>xavier_uniform", activation="tanh")
    batch, group = layers.BatchNormalization, partial(layers.GroupNormalization, 4)
    yield healthy("CNN batch norm", cnn, init="glorot_uniform", normalization=batch)
    yield healthy("CNN batch norm, small normal", cnn, init=normal(0.02), normalization=batch)
    yield healthy("CNN group norm", cnn, normalization=group)
    yield healthy("LSTM", recurrent)
    yield healthy("GRU", recurrent, kind=layers.GRU)
    identity = {"recurrent_initializer": "identity", "activation": "relu"}
    yield healthy("IRNN", recurrent, kind=layers.SimpleRNN, **identity)
    yield healthy("LSTM, recurrent dropout", recurrent, dropout=0.2, recurrent_dropout=0.2)
    yield healthy("LSTM bidirectional", recurrent, kind=bidirectional)
    yield healthy("residual", residual, blocks=4)
    yield healthy("residual, norm", residual, blocks=12, normalized=True)
    yield healthy("residual, zero ends", residual, end="zeros", blocks=12)
    small = partial(signal_times(1e-4), name=None)
    yield healthy("residual, layer scale", residual, blocks=12, normalized=True, make_scale=small)
    yield healthy("residual, gain from 0", residual, blocks=12, make_scale=Gain)
    yield healthy("attention", attention)
    yield healthy(
        "attention, small normal", attention, init=normal(0.02), feed_forward=normal(0.02)
    )
    yield healthy("attention, ReLU", attention, activation="relu")
    yield healthy("attention, zero head", attention, make_head=partial(head, "zeros"))


def bidirectional(units, **options):
    name = options.pop("name")
    return layers.Bidirectional(layers.LSTM(units, **options), name=name)


class Gain(layers.Layer):
    """ReZero: a factor of the whole branch, learned from 0."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(), initializer="zeros", name="gain")

    def call(self, x):
        return x * self.gain


def training_settings():
    slow, pretrained = {"optimizer": adam(1e-5)}, {"pretrained": True}
    yield healthy("small rate", mlp, **slow)
    yield healthy("fine-tuning", mlp, **slow, **pretrained)
    yield healthy("fine-tuning, CNN", cnn, **slow, **pretrained)
    yield healthy("fine-tuning, SGD", mlp, optimizer=sgd(1e-4, 0.9), **pretrained)
    yield healthy("momentum", mlp, optimizer=sgd(0.05, 0.9))
    decayed = partial(keras.optimizers.AdamW, 3e-3, weight_decay=0.1)
    yield healthy("AdamW, rate 3e-3", mlp, optimizer=decayed)
    clipped = partial(keras.optimizers.Adam, clipnorm=0.1)
    yield healthy("clipping", recurrent, optimizer=clipped)
    accumulated = partial(keras.optimizers.Adam, gradient_accumulation_steps=4)
    yield healthy("accumulated gradients", mlp, optimizer=accumulated)
    yield healthy("mixed float16", mlp, policy="mixed_float16")
    yield healthy("mixed float16, CNN", cnn, policy="mixed_float16")
    yield healthy("mixed bfloat16", attention, policy="mixed_bfloat16")
    yield healthy("rare classes", mlp, change_data=with_rare_classes)


def with_rare_classes(x, y):
    """Give nine of ten samples the same class."""
    common = np.arange(len(y)) % 10 > 0
    return x[np.where(common, np.flatnonzero(y == 0)[0], np.arange(len(y)))], np.where(common, 0, y)


def special_models():
    yield Case("healthy", "separable CNN", separable_cnn, data="image")
    yield Case("healthy", "strided CNN", strided_cnn, data="image")
    reconstructed = {"loss": "mse", "change_data": lambda x, y: (x, x)}
    yield Case("healthy", "autoencoder", autoencoder, **reconstructed)
    yield Case("healthy", "frozen base", frozen_base, pretrained=True)
    yield Case("healthy", "pixels, rescaled", rescaled, change_data=lambda x, y: (x * 255, y))
    yield Case("healthy", "embedding", mean_embedding, data="words")
    yield Case("healthy", "masked words", masked_lstm, data="words")


def separable_cnn():
    hidden = [
        layers.SeparableConv2D(
            16, 3, padding="same", activation="relu", pointwise_initializer=HE, name=f"c{i}"
        )
        for i in range(3)
    ]
    pool = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 1)), *hidden, pool, head()])


def strided_cnn():
    hidden = [
        layers.Conv2D(
            16 * 2**i, 3, 2, padding="same", activation="relu", kernel_initializer=HE, name=f"c{i}"
        )
        for i in range(3)
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *hidden, layers.Flatten(), head()])


def autoencoder():
    hidden = [
        layers.Dense(width, "relu", kernel_initializer=HE, name=f"d{i}")
        for i, width in enumerate((32, 8, 32))
    ]
    return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(64, "sigmoid")])


def frozen_base():
    model = mlp()
    for layer in model.layers[:3]:
        layer.trainable = False
    return model


def rescaled():
    return keras.Sequential([keras.Input((64,)), layers.Rescaling(1 / 255), *mlp().layers])


def mean_embedding():
    dense = layers.Dense(64, "relu", kernel_initializer=HE)
    hidden = [layers.Embedding(64, 32), layers.GlobalAveragePooling1D(), dense]
    return keras.Sequential([keras.Input((12,), dtype="int32"), *hidden, head()])


def masked_lstm():
    hidden = [layers.Embedding(64, 32, mask_zero=True), layers.LSTM(24)]
    return keras.Sequential([keras.Input((12,), dtype="int32"), *hidden, head()])
