"""Report and repair: what is wrong with a start, before a single step of training.

A convolutional network has two mistakes: one layer whose weights are much too large, and one that
starts at zero. Look below the first table: the layer of zeros is the finding that explains all
others, and "what to change" names the large weights, too.
`reinitialize` then draws every weight by what it is for, and its table says what it chose and why.
The verdict of the second report says that nothing is wrong any more. The pictures show the standard
deviation and the gradient of each layer, before and after.
"""

import keras
import numpy as np

import keras_winit

keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((16, 16, 3)),
        layers.Conv2D(16, 3, activation="relu", name="conv_1"),
        layers.Conv2D(
            16, 3, activation="relu", kernel_initializer="winit>large_normal", name="big"
        ),
        layers.DepthwiseConv2D(3, activation="relu", name="depthwise"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(32, "tanh", kernel_initializer="zeros", name="zero"),
        layers.Dense(10, "softmax", name="head"),
    ],
    name="net",
)
images = np.random.default_rng(0).normal(size=(64, 16, 16, 3)).astype("float32")

before = keras_winit.signal_report(model, images)
print(before, end="\n\n")
before.plot("before.png")

print(keras_winit.reinitialize(model, seed=0), end="\n\n")

after = keras_winit.signal_report(model, images)
print(after.verdict)
after.plot("after.png")
