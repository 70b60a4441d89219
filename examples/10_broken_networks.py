"""Diagnosing broken networks: four faults that raise no error, and what the monitor says.

Each network classifies the digits and has one fault. Look at the first line below each title: the
rule and the layer, then the cause and the remedy in words. The last network has no fault, and
nothing is found in it.
"""

import keras

import keras_winit
from keras_winit import experiments

data = experiments.digits()


def network(scheme="winit>he_normal", last=None, rate=0.01):
    """Build a classifier with two hidden layers; by default, a healthy one."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, "relu", kernel_initializer="winit>he_normal", name="hidden_1"),
            keras.layers.Dense(64, "relu", kernel_initializer=scheme, name="hidden_2"),
            keras.layers.Dense(10, last, name="scores"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


FAULTS = {
    "ReLUs whose weights are all negative": (network("winit>negative_normal"), 1),
    "a softmax before a loss that expects logits": (network(last="softmax"), 1),
    "a learning rate that is far too high": (network(rate=100.0), 1),
    "pixels that were not scaled": (network(), 1000),
    "no fault": (network(), 1),
}
found = {}
for title, (model, scale) in FAULTS.items():
    monitor = keras_winit.ActivationMonitor(verbose=0)
    images = data.train_images * scale
    model.fit(images, data.train_labels, callbacks=[monitor], verbose=0)
    found[title] = [(finding.rule, finding.layer) for finding in monitor.findings]
    print(f"--- {title}")
    for finding in monitor.findings[:1]:
        print(f"{finding.severity}: {finding.rule} in {finding.layer!r} at step {finding.step}")
        print(f"cause: {finding.cause}\nremedy: {finding.remedy}\n")
print(monitor.findings)
