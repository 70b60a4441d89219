"""Healthy programs that start from a network trained on other images."""

import functools

import keras
import numpy as np
from keras import Sequential
from keras.layers import Conv2D, Dense, GlobalAveragePooling2D, Input, MaxPooling2D
from keras.optimizers import Adam

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import images, made

CASES = []
healthy = healthy_into(CASES)
SPARSE = "sparse_categorical_crossentropy"
STANDARD = made(images, channels=3, scale="standardized")


def image_base():
    hidden = [Conv2D(16, 3, activation="relu"), MaxPooling2D(), Conv2D(32, 3, activation="relu")]
    return Sequential([Input((12, 12, 3)), *hidden, GlobalAveragePooling2D()], name="base")


@functools.cache
def pretrained_weights():
    """Return the weights of the base after training on other images."""
    base = image_base()
    model = compiled(Sequential([base, Dense(10, activation="softmax")]), Adam(3e-3), SPARSE)
    model.fit(*STANDARD(np.random.default_rng(0), 1280), epochs=6, verbose=0)
    return base.get_weights()


def fine_tuned(base_trains, rate):
    base = image_base()
    base.set_weights(pretrained_weights())
    base.trainable = base_trains
    inputs = Input((12, 12, 3))
    outputs = Dense(10, activation="softmax")(base(inputs))
    return compiled(keras.Model(inputs, outputs), Adam(rate), SPARSE)


@healthy("fine-tuning", "frozen pretrained base, new head, batch 32", STANDARD)
def frozen_base():
    return fine_tuned(base_trains=False, rate=1e-2)


@healthy("fine-tuning", "whole pretrained network, Adam 1e-3, batch 32", STANDARD)
def unfrozen_base():
    return fine_tuned(base_trains=True, rate=1e-3)
