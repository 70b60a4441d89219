"""Saved models: a scheme comes back with its arguments, and a seed with its values.

Look at the three lines that say True. The loaded model has the weights of the saved one, and a
scheme with the same arguments. A copy that is built anew from the config draws the same weights,
because the scheme has a seed. This holds on TensorFlow, JAX and PyTorch alike, to the last bit: the
checksum in the last line is the same on each of them.
"""

import hashlib

import keras
import numpy as np

import keras_winit  # A program that only loads the model needs this import as well.

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(
            32,
            "relu",
            kernel_initializer=keras_winit.Sparse(connections=15, gain=2**0.5, seed=7),
            bias_initializer="winit>constant",
        ),
        keras.layers.Dense(10, kernel_initializer=keras_winit.Orthogonal(gain=0.1, seed=8)),
    ]
)
model.save("digits.keras")


def equal(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


loaded = keras.models.load_model("digits.keras")
rebuilt = keras.Sequential.from_config(model.get_config())
schemes = [layer.kernel_initializer for layer in loaded.layers]
results = {
    "the loaded weights are the saved ones": equal(model, loaded),
    "the loaded schemes have their arguments": repr(schemes[0])
    == repr(model.layers[0].kernel_initializer),
    "the rebuilt model draws the same weights": equal(model, rebuilt),
}
for claim, holds in results.items():
    print(f"{claim:42} {holds}")
print(*schemes, sep="\n")

checksum = hashlib.sha256(model.get_weights()[0].tobytes()).hexdigest()[:16]
print(f"checksum of the sparse kernel: {checksum}")
