"""Healthy programs that generate, compare or reconstruct, and models with several parts."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.layers import (
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
    Reshape,
    UpSampling2D,
)
from keras.losses import BinaryCrossentropy
from keras.optimizers import Adam

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import (
    changed,
    clusters,
    images,
    made,
    pairs,
    ratings,
    reconstruction,
)

CASES = []
healthy = healthy_into(CASES)
PIXELS = made(reconstruction)


@healthy(
    "autoencoder", "dense, sigmoid and binary cross-entropy, 0..1, batch 256", PIXELS, batch=256
)
def dense_autoencoder():
    inputs = Input((12, 12, 1))
    encoded = Dense(32, activation="relu")(Flatten()(inputs))
    decoded = Reshape((12, 12, 1))(Dense(144, activation="sigmoid")(encoded))
    model = keras.Model(inputs, decoded)
    return compiled(model, Adam(3e-3), "binary_crossentropy")


@healthy("autoencoder", "convolutional with upsampling, mse, 0..1, batch 64", PIXELS, batch=64)
def conv_autoencoder():
    inputs = Input((12, 12, 1))
    x = Conv2D(16, 3, activation="relu", padding="same")(inputs)
    x = MaxPooling2D(2, padding="same")(x)
    x = Conv2D(8, 3, activation="relu", padding="same")(x)
    x = UpSampling2D(2)(x)
    x = Conv2D(1, 3, activation="sigmoid", padding="same")(x)
    return compiled(keras.Model(inputs, x), "adam", "mse")


def tabular_rows(x, y):
    return x, x


@healthy(
    "autoencoder",
    "anomaly detector with tanh and L1 activity, batch 32",
    changed(made(clusters, features=29, classes=4), tabular_rows),
)
def anomaly_autoencoder():
    sparse = keras.regularizers.L1(1e-5)
    model = Sequential(
        [
            Input((29,)),
            Dense(14, activation="tanh", activity_regularizer=sparse),
            Dense(7, activation="relu"),
            Dense(14, activation="tanh"),
            Dense(29),
        ]
    )
    return compiled(model, Adam(5e-3), "mse")


class Denoiser(keras.Model):
    """A subclassed autoencoder that adds noise to its inputs."""

    def __init__(self):
        super().__init__()
        self.noise = layers.GaussianNoise(0.2)
        self.encoder = Sequential([Conv2D(16, 3, 2, "same", activation="relu")])
        self.decoder = Sequential(
            [
                Conv2DTranspose(16, 3, 2, "same", activation="relu"),
                Conv2D(1, 3, padding="same", activation="sigmoid"),
            ]
        )

    def call(self, inputs, training=None):
        return self.decoder(self.encoder(self.noise(inputs, training=training)))


@healthy("autoencoder", "subclassed denoiser, 0..1, batch 32", PIXELS)
def denoiser():
    return compiled(Denoiser(), "adam", "mse")


class Sampling(layers.Layer):
    """Samples of the latent variable, with the divergence as a loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs):
        mean, log_var = inputs
        divergence = 1 + log_var - ops.square(mean) - ops.exp(log_var)
        self.add_loss(-0.5e-2 * ops.mean(ops.sum(divergence, axis=1)))
        epsilon = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * epsilon


@healthy("VAE", "dense with add_loss, 0..1, batch 128", PIXELS, batch=128)
def variational_autoencoder():
    inputs = Input((12, 12, 1))
    x = Dense(128, activation="relu")(Flatten()(inputs))
    z = Sampling()([Dense(4, name="z_mean")(x), Dense(4, name="z_log_var")(x)])
    x = Dense(128, activation="relu")(z)
    outputs = Reshape((12, 12, 1))(Dense(144, activation="sigmoid")(x))
    return compiled(keras.Model(inputs, outputs), Adam(3e-3), "binary_crossentropy")


@healthy("VAE", "convolutional with add_loss, 0..1, batch 64", PIXELS, batch=64)
def conv_variational_autoencoder():
    inputs = Input((12, 12, 1))
    x = Conv2D(16, 3, activation="relu", strides=2, padding="same")(inputs)
    x = Dense(64, activation="relu")(Flatten()(x))
    z = Sampling()([Dense(8, name="z_mean")(x), Dense(8, name="z_log_var")(x)])
    x = Reshape((6, 6, 8))(Dense(6 * 6 * 8, activation="relu")(z))
    x = Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    outputs = Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    return compiled(keras.Model(inputs, outputs), Adam(5e-3), "binary_crossentropy")


def real_and_noise(rng, rows):
    """Return images in -1..1, half of them noise, as an untrained generator makes it."""
    x, _ = images(rng, rows, scale="-1..1")
    fake = (rng.random(rows) < 0.5)[:, None, None, None]
    x = x * ~fake + fake * 0.5 * rng.normal(size=x.shape)
    return x.astype("float32"), 1 - fake.reshape(-1, 1).astype("float32")


def discriminator(**options):
    return Sequential(
        [
            Input((12, 12, 1)),
            Conv2D(16, 3, strides=2, padding="same", **options),
            LeakyReLU(negative_slope=0.2),
            Dropout(0.3),
            Conv2D(32, 3, strides=2, padding="same", **options),
            LeakyReLU(negative_slope=0.2),
            Dropout(0.3),
            Flatten(),
            Dense(1),
        ]
    )


@healthy("GAN half", "discriminator with LeakyReLU and dropout, batch 64", real_and_noise, batch=64)
def gan_discriminator():
    return compiled(discriminator(), Adam(1e-3, 0.5), BinaryCrossentropy(from_logits=True))


@healthy("GAN half", "DCGAN discriminator of N(0, 0.02²), batch 32", real_and_noise)
def dcgan_discriminator():
    def start():
        return keras.initializers.RandomNormal(stddev=0.02)

    inputs = Input((12, 12, 1))
    x = LeakyReLU(0.2)(Conv2D(32, 4, 2, "same", kernel_initializer=start())(inputs))
    x = Conv2D(64, 4, 2, "same", kernel_initializer=start())(x)
    x = LeakyReLU(0.2)(BatchNormalization(momentum=0.8)(x))
    outputs = Dense(1, activation="sigmoid")(Flatten()(x))
    model = keras.Model(inputs, outputs)
    return compiled(model, Adam(2e-4, 0.5), "binary_crossentropy")


def latent_points(rng, rows):
    return rng.normal(size=(rows, 16)).astype("float32"), np.ones((rows, 1), "float32")


@healthy("GAN half", "generator through a frozen discriminator, batch 64", latent_points, batch=64)
def gan_generator():
    generator = Sequential(
        [
            Input((16,)),
            Dense(6 * 6 * 16, use_bias=False),
            BatchNormalization(),
            LeakyReLU(),
            Reshape((6, 6, 16)),
            Conv2DTranspose(8, 5, strides=2, padding="same", use_bias=False),
            BatchNormalization(),
            LeakyReLU(),
            Conv2D(1, 5, padding="same", activation="tanh"),
        ]
    )
    frozen = discriminator()
    frozen.trainable = False
    model = Sequential([Input((16,)), generator, frozen])
    return compiled(model, Adam(1e-3, 0.5), BinaryCrossentropy(from_logits=True))


@healthy("siamese", "shared encoder, distance and sigmoid, batch 32", pairs)
def siamese():
    encoder = Sequential([Input((16,)), Dense(64, activation="relu"), Dense(32)])
    left, right = Input((16,)), Input((16,))
    distance = ops.abs(encoder(left) - encoder(right))
    outputs = Dense(1, activation="sigmoid")(distance)
    return compiled(keras.Model([left, right], outputs), Adam(3e-3), "binary_crossentropy")


@healthy("siamese", "shared encoder, two concatenated codes, batch 64", pairs, batch=64)
def shared_branches():
    shared = Dense(64, activation="relu")
    left, right = Input((16,)), Input((16,))
    a, b = shared(left), shared(right)
    x = layers.concatenate([a, b, layers.multiply([a, b])])
    x = Dense(64, activation="relu")(x)
    model = keras.Model([left, right], Dense(1, activation="sigmoid")(x))
    return compiled(model, Adam(3e-3), "binary_crossentropy")


@healthy("recommender", "two embeddings, dot product and biases, batch 256", ratings, batch=256)
def recommender():
    user, item = Input((1,), dtype="int32"), Input((1,), dtype="int32")
    he = {"embeddings_initializer": "he_normal"}
    dot = layers.Dot(axes=2)(
        [layers.Embedding(60, 16, **he)(user), layers.Embedding(40, 16, **he)(item)]
    )
    x = layers.add([dot, layers.Embedding(60, 1)(user), layers.Embedding(40, 1)(item)])
    outputs = layers.Activation("sigmoid")(Flatten()(x))
    return compiled(keras.Model([user, item], outputs), Adam(3e-2), "mse")


def boxes(rng, rows):
    """Return images with the class and the mean brightness of each quarter."""
    x, y = images(rng, rows)
    quarters = x.reshape(rows, 2, 6, 2, 6).mean((2, 4)).reshape(rows, 4)
    return x, {"label": y, "box": quarters}


@healthy("multi-output", "class and box from one CNN, batch 32", boxes)
def detector():
    inputs = Input((12, 12, 1), name="image")
    x = Conv2D(16, 3, activation="relu", padding="same")(inputs)
    x = MaxPooling2D()(x)
    x = Conv2D(32, 3, activation="relu", padding="same")(x)
    label = Dense(10, activation="softmax", name="label")(Flatten()(x))
    box = Dense(4, name="box")(Dense(32, activation="relu")(GlobalAveragePooling2D()(x)))
    losses = {"label": "sparse_categorical_crossentropy", "box": "mse"}
    model = keras.Model(inputs, {"label": label, "box": box})
    return compiled(model, "adam", losses, loss_weights={"label": 1.0, "box": 5.0})
