"""Healthy programs on images: classifiers of many kinds, and segmentation."""

import keras
from keras import Sequential, layers
from keras.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GroupNormalization,
    Input,
    LayerNormalization,
    MaxPooling2D,
)
from keras.losses import SparseCategoricalCrossentropy
from keras.optimizers import SGD, Adam

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import images, made, masks

CASES = []
healthy = healthy_into(CASES)
SPARSE = "sparse_categorical_crossentropy"
PIXELS = made(images)
COLORS = made(images, channels=3, scale="-1..1")
STANDARD = made(images, channels=3, scale="standardized")


@healthy("CNN", "MNIST convnet, 0..1, one-hot, batch 128", made(images, targets="hot"), batch=128)
def mnist_convnet():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(16, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Conv2D(32, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Flatten(),
            Dropout(0.5),
            Dense(10, activation="softmax"),
        ]
    )
    return compiled(model, "adam", "categorical_crossentropy", metrics=["accuracy"])


@healthy("MLP", "quickstart with logits, 0..1, batch 32", PIXELS)
def quickstart():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Flatten(),
            Dense(128, activation="relu"),
            Dropout(0.2),
            Dense(10),
        ]
    )
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))


@healthy("MLP", "Flatten, Dense 300 and 100, SGD 0.05, 0..1, batch 32", PIXELS)
def geron_mlp():
    hidden = [Dense(300, activation="relu"), Dense(100, activation="relu")]
    model = Sequential([Input((12, 12, 1)), Flatten(), *hidden, Dense(10, activation="softmax")])
    return compiled(model, SGD(0.05), SPARSE)


@healthy("CNN", "three convolutions and a dense layer, -1..1, batch 64", COLORS, batch=64)
def color_cnn():
    model = Sequential([Input((12, 12, 3))])
    model.add(Conv2D(16, (3, 3), activation="relu"))
    model.add(MaxPooling2D((2, 2)))
    model.add(Conv2D(32, (3, 3), activation="relu"))
    model.add(Conv2D(32, (3, 3), activation="relu"))
    model.add(Flatten())
    model.add(Dense(64, activation="relu"))
    model.add(Dense(10))
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))


@healthy("momentum", "CNN, standardized, SGD 0.01 with momentum 0.9, batch 32", STANDARD)
def momentum_cnn():
    model = Sequential(
        [
            Input((12, 12, 3)),
            Conv2D(16, 3, padding="same", activation="relu"),
            Conv2D(16, 3, padding="same", activation="relu"),
            MaxPooling2D(),
            Conv2D(32, 3, padding="same", activation="relu"),
            Flatten(),
            Dense(10, activation="softmax"),
        ]
    )
    return compiled(model, SGD(0.01, momentum=0.9, nesterov=True), SPARSE)


@healthy("small batch", "256 channels behind global pooling, 0..1, batch 8", PIXELS, batch=8)
def wide_pooled():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(16, 3, activation="relu"),
            MaxPooling2D(2),
            Conv2D(64, 3, activation="relu"),
            GlobalAveragePooling2D(),
            Dense(256, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    return compiled(model, Adam(2e-3), SPARSE)


@healthy("small batch", "Dense 512 with dropout 0.5, standardized, batch 16", STANDARD, batch=16)
def wide_dropout():
    hidden = [Dense(512, activation="relu"), Dropout(0.5), Dense(256, activation="relu")]
    model = Sequential([Input((12, 12, 3)), Flatten(), *hidden, Dense(10, activation="softmax")])
    return compiled(model, "adam", SPARSE)


def conv_norm(x, filters, stride=1, activation="relu"):
    x = Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
    x = BatchNormalization()(x)
    return Activation(activation)(x) if activation else x


@healthy("batch norm", "convolutions without bias, -1..1, batch 32", COLORS)
def batch_norm_cnn():
    inputs = Input((12, 12, 3))
    x = conv_norm(inputs, 16)
    x = conv_norm(x, 32, 2)
    x = conv_norm(x, 32, 2)
    outputs = Dense(10, activation="softmax")(GlobalAveragePooling2D()(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


def small_resnet(optimizer):
    inputs = Input((12, 12, 3))
    x = conv_norm(inputs, 16, 2)
    for filters, stride in ((16, 1), (32, 2)):
        y = conv_norm(x, filters, stride)
        y = conv_norm(y, filters, activation=None)
        if stride > 1:
            x = Conv2D(filters, 1, stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    outputs = Dense(10, activation="softmax")(GlobalAveragePooling2D()(x))
    return compiled(keras.Model(inputs, outputs), optimizer, SPARSE)


@healthy("batch norm", "ResNet, standardized, Adam, batch 32", STANDARD)
def resnet():
    return small_resnet("adam")


@healthy("momentum", "ResNet, SGD 0.1 with momentum 0.9, batch 64", STANDARD, batch=64)
def resnet_momentum():
    return small_resnet(SGD(0.1, momentum=0.9))


@healthy("mixed precision", "ResNet in bfloat16, batch 32", STANDARD, policy="mixed_bfloat16")
def resnet_bfloat16():
    return small_resnet("adam")


@healthy("mixed precision", "CNN in float16, batch 64", PIXELS, batch=64, policy="mixed_float16")
def float16_cnn():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(16, 3, activation="relu"),
            MaxPooling2D(),
            Conv2D(32, 3, activation="relu"),
            Flatten(),
            Dense(10),
            Activation("softmax", dtype="float32"),
        ]
    )
    return compiled(model, "adam", SPARSE)


@healthy("layer norm", "CNN with normalized channels, 0..1, batch 16", PIXELS, batch=16)
def layer_norm_cnn():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(16, 3, activation="relu"),
            LayerNormalization(),
            Conv2D(16, 3, strides=2, activation="relu"),
            LayerNormalization(),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    return compiled(model, "adam", SPARSE)


@healthy(
    "layer norm", "whole maps normalized before a dense layer, 0..1, batch 64", PIXELS, batch=64
)
def layer_norm_maps():
    model = Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(12, (5, 5), activation="relu"),
            LayerNormalization(axis=[1, 2, 3]),
            Flatten(),
            Dense(200, activation="relu"),
            Dense(10),
        ]
    )
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))


@healthy("group norm", "CNN with SiLU, -1..1, batch 8", COLORS, batch=8)
def group_norm_cnn():
    inputs = x = Input((12, 12, 3))
    for filters in (16, 32):
        x = Conv2D(filters, 3, strides=2, padding="same")(x)
        x = GroupNormalization(groups=4)(x)
        x = Activation("silu")(x)
    x = Dense(64, activation="relu")(Flatten()(x))
    return compiled(keras.Model(inputs, Dense(10, activation="softmax")(x)), "adam", SPARSE)


@healthy("MobileNet", "depthwise and pointwise blocks with ReLU6, -1..1, batch 32", COLORS)
def mobilenet():
    inputs = x = Input((12, 12, 3))
    x = Conv2D(16, 3, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(BatchNormalization()(x))
    for filters in (32, 32, 64):
        x = DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(BatchNormalization()(x))
        x = Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(BatchNormalization()(x))
    x = Dropout(0.2)(GlobalAveragePooling2D()(x))
    return compiled(keras.Model(inputs, Dense(10, activation="softmax")(x)), "adam", SPARSE)


@healthy("MobileNet", "inverted residual with squeeze and excitation, batch 32", STANDARD)
def squeeze_excite():
    inputs = Input((12, 12, 3))
    x = conv_norm(inputs, 16, 2, "swish")
    y = Conv2D(32, 1, use_bias=False)(x)
    y = Activation("swish")(BatchNormalization()(y))
    y = DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = Activation("swish")(BatchNormalization()(y))
    gate = GlobalAveragePooling2D(keepdims=True)(y)
    gate = Conv2D(32, 1, activation="sigmoid")(Conv2D(4, 1, activation="swish")(gate))
    y = BatchNormalization()(Conv2D(16, 1, use_bias=False)(layers.multiply([y, gate])))
    x = layers.add([x, y])
    x = GlobalAveragePooling2D()(x)
    return compiled(keras.Model(inputs, Dense(10, activation="softmax")(x)), "adam", SPARSE)


@healthy("U-Net", "sigmoid mask with binary cross-entropy, 0..1, batch 8", masks, batch=8)
def unet():
    inputs = x = Input((16, 16, 1))
    skips = []
    for filters in (8, 16):
        x = Conv2D(filters, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = MaxPooling2D()(x)
    x = Conv2D(32, 3, padding="same", activation="relu")(x)
    for filters in (16, 8):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.concatenate([x, skips.pop()])
        x = Conv2D(filters, 3, padding="same", activation="relu")(x)
    outputs = Conv2D(1, 1, activation="sigmoid")(x)
    return compiled(keras.Model(inputs, outputs), Adam(2e-3), "binary_crossentropy")


@healthy(
    "augmentation", "flips and rescaled 0..255, batch 32", made(images, channels=3, scale="0..255")
)
def augmented():
    model = Sequential(
        [
            Input((12, 12, 3)),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1.0 / 255),
            Conv2D(16, 3, padding="same", activation="relu"),
            MaxPooling2D(),
            Conv2D(32, 3, padding="same", activation="relu"),
            MaxPooling2D(),
            Dropout(0.2),
            Flatten(),
            Dense(64, activation="relu"),
            Dense(10),
        ]
    )
    return compiled(model, "adam", SparseCategoricalCrossentropy(from_logits=True))
