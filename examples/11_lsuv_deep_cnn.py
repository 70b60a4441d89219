"""LSUV on a deep convolutional network: every pre-activation gets variance 1 on real images.

The network has 20 convolutions and no normalization. Look at the two columns of numbers: with the
default of Keras the signal shrinks to less than a hundredth. After `lsuv`, which needs one forward
pass over 64 images, it has about the same size in all layers. Then look at the accuracies: after
four epochs on the digits the default start still guesses, and the network that LSUV started has
learned most digits.
"""

import keras

import keras_winit
from keras_winit import experiments

DEPTH, EPOCHS = 20, 4


def network():
    keras.utils.set_random_seed(0)
    convolutions = [
        keras.layers.Conv2D(16, 3, padding="same", activation="leaky_relu", name=f"conv_{number}")
        for number in range(1, DEPTH + 1)
    ]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            *convolutions,
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="scores"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.003, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


data = experiments.digits()
default, started = network(), network()
changes = keras_winit.lsuv(started, data.train_images, seed=0)
print(changes.title)

reports = [
    keras_winit.signal_report(model, data.train_images, samples=64) for model in (default, started)
]
print("layer       default   LSUV     standard deviation of the output")
stddevs = {}
for row, other in zip(*(report.rows for report in reports), strict=True):
    if row.has_kernel:
        stddevs[row.layer] = (row.stddev, other.stddev)
        print(f"{row.layer:10} {row.stddev:8.4f} {other.stddev:6.2f}")

*_, accuracies = experiments.train_on_digits([default, started], data, EPOCHS)
for name, accuracy in zip(("default", "LSUV"), accuracies, strict=True):
    print(f"{name:8} {accuracy:6.1%} of the test digits after {EPOCHS} epochs")
