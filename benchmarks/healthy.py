"""Healthy models for `diagnosis.py`, some with what looks like a fault and is none."""

from functools import partial

import keras
import numpy as np
from keras import layers
from nets import (
    HE,
    Mixer,
    attention,
    cnn,
    head,
    mlp,
    normal,
    recurrent,
    residual,
    scheme,
    times,
)
from plans import PLANS, Plan, adam, plant, sgd


def healthy(name, build, /, **options):
    plant("healthy", name, "", "", build, **options)


def plan():
    dense()
    others()
    training()
    special()


def dense():
    xavier = "winit>xavier_uniform"
    healthy("MLP He", mlp)
    healthy("MLP Glorot", mlp, init="glorot_uniform", depth=3)
    healthy("MLP tanh", mlp, init=xavier, activation="tanh")
    healthy("MLP sigmoid", mlp, init=xavier, activation="sigmoid", depth=2)
    healthy("MLP GELU", mlp, activation="gelu")
    healthy("MLP SELU", mlp, init="winit>lecun_normal", activation="selu")
    healthy("MLP SiLU", mlp, activation="silu")
    healthy("MLP leaky ReLU", mlp, activation="leaky_relu")
    series = {"data": "series", "shape": (32,)}
    healthy("MLP orthogonal, series", mlp, init="winit>orthogonal", **series)
    healthy("MLP 10 deep", mlp, depth=10)
    healthy("MLP 20 deep, 128 wide", mlp, depth=20, width=128)
    healthy("MLP 20 deep, tanh", mlp, init="winit>orthogonal", activation="tanh", depth=20)
    sparse = scheme("winit>sparse", stddev=0.4)
    healthy("MLP sparse", mlp, init=sparse, activation="tanh")
    healthy("MLP narrow", mlp, width=12, depth=2)
    healthy("MLP wide", mlp, width=512, depth=2)
    healthy("MLP with a layer of its own", mlp, after={1: lambda name: Mixer(name=name)})
    healthy("zero head", mlp, last=partial(head, "zeros"))
    healthy("small biases", mlp, bias=dict.fromkeys(range(5), 0.1))
    healthy("dropout", mlp, depth=3, drop=0.5)


def others():
    healthy("CNN", cnn)
    healthy("CNN tanh", cnn, init="winit>xavier_uniform", activation="tanh")
    batch, group = layers.BatchNormalization, partial(layers.GroupNormalization, 4)
    healthy("CNN batch norm", cnn, init="glorot_uniform", norm=batch)
    healthy("CNN batch norm, small normal", cnn, init=normal(0.02), norm=batch)
    healthy("CNN group norm", cnn, norm=group)
    healthy("LSTM", recurrent)
    healthy("GRU", recurrent, kind=layers.GRU)
    identity = {"recurrent_initializer": "identity", "activation": "relu"}
    healthy("IRNN", recurrent, kind=layers.SimpleRNN, **identity)
    healthy("LSTM, recurrent dropout", recurrent, dropout=0.2, recurrent_dropout=0.2)
    healthy("LSTM bidirectional", recurrent, kind=both)
    healthy("residual", residual, blocks=4)
    healthy("residual, norm", residual, blocks=12, norm=True)
    healthy("residual, zero ends", residual, end="zeros", blocks=12)
    small = partial(times(1e-4), None)
    healthy("residual, layer scale", residual, blocks=12, norm=True, scale=small)
    healthy("residual, gain from 0", residual, blocks=12, scale=Gain)
    healthy("attention", attention)
    healthy("attention, small normal", attention, init=normal(0.02), feed=normal(0.02))
    healthy("attention, ReLU", attention, activation="relu")
    healthy("attention, zero head", attention, last=partial(head, "zeros"))


def both(units, **options):
    name = options.pop("name")
    return layers.Bidirectional(layers.LSTM(units, **options), name=name)


class Gain(layers.Layer):
    """ReZero: a factor for the whole branch, learned from 0."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(), initializer="zeros", name="gain")

    def call(self, x):
        return x * self.gain


def training():
    slow, tuned = {"optimizer": adam(1e-5)}, {"trained": True}
    healthy("small rate", mlp, **slow)
    healthy("fine-tuning", mlp, **slow, **tuned)
    healthy("fine-tuning, CNN", cnn, **slow, **tuned)
    healthy("fine-tuning, SGD", mlp, optimizer=sgd(1e-4, 0.9), **tuned)
    healthy("momentum", mlp, optimizer=sgd(0.05, 0.9))
    decayed = partial(keras.optimizers.AdamW, 3e-3, weight_decay=0.1)
    healthy("AdamW, rate 3e-3", mlp, optimizer=decayed)
    clipped = partial(keras.optimizers.Adam, clipnorm=0.1)
    healthy("clipping", recurrent, optimizer=clipped)
    gathered = partial(keras.optimizers.Adam, gradient_accumulation_steps=4)
    healthy("accumulated gradients", mlp, optimizer=gathered)
    healthy("mixed float16", mlp, policy="mixed_float16")
    healthy("mixed float16, CNN", cnn, policy="mixed_float16")
    healthy("mixed bfloat16", attention, policy="mixed_bfloat16")
    healthy("rare classes", mlp, spoil=rare)


def rare(x, y):
    """Nine of ten samples are of one class."""
    common = np.arange(len(y)) % 10 > 0
    return x[np.where(common, np.flatnonzero(y == 0)[0], np.arange(len(y)))], np.where(common, 0, y)


def special():
    plans = {
        "separable CNN": (separable, {"data": "image"}),
        "strided CNN": (strided, {"data": "image"}),
        "autoencoder": (autoencoder, {"loss": "mse", "spoil": lambda x, y: (x, x)}),
        "frozen base": (frozen, {"trained": True}),
        "pixels, rescaled": (rescaled, {"spoil": lambda x, y: (x * 255, y)}),
        "embedding": (bag, {"data": "words"}),
        "masked words": (masked, {"data": "words"}),
    }
    for name, (build, settings) in plans.items():
        PLANS.append(Plan("healthy", name, build, **{"data": "flat", **settings}))


def separable():
    rows = [
        layers.SeparableConv2D(
            16, 3, padding="same", activation="relu", pointwise_initializer=HE, name=f"c{i}"
        )
        for i in range(3)
    ]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *rows, layers.GlobalAveragePooling2D(), head()]
    )


def strided():
    rows = [
        layers.Conv2D(
            16 * 2**i, 3, 2, padding="same", activation="relu", kernel_initializer=HE, name=f"c{i}"
        )
        for i in range(3)
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *rows, layers.Flatten(), head()])


def autoencoder():
    sizes = (32, 8, 32)
    rows = [
        layers.Dense(n, "relu", kernel_initializer=HE, name=f"d{i}") for i, n in enumerate(sizes)
    ]
    return keras.Sequential([keras.Input((64,)), *rows, layers.Dense(64, "sigmoid")])


def frozen():
    model = mlp()
    for layer in model.layers[:3]:
        layer.trainable = False
    return model


def rescaled():
    model = mlp()
    return keras.Sequential([keras.Input((64,)), layers.Rescaling(1 / 255), *model.layers])


def bag():
    rows = [layers.Embedding(64, 32), layers.GlobalAveragePooling1D()]
    dense = layers.Dense(64, "relu", kernel_initializer=HE)
    return keras.Sequential([keras.Input((12,), dtype="int32"), *rows, dense, head()])


def masked():
    rows = [layers.Embedding(64, 32, mask_zero=True), layers.LSTM(24)]
    return keras.Sequential([keras.Input((12,), dtype="int32"), *rows, head()])
