"""Watching training: every layer and variable, as a table, as a picture and in TensorBoard.

The fifth of six hidden layers starts with weights that are far too large. Look at the row "bad" of
the table: more than four of five outputs are saturated, and an update changes its weights ten times
less than those of the other layers. The finding below says why and what to do. In the picture each
row is a layer and each column a recorded step. The last two lines lead to TensorBoard.
"""

import keras

import keras_winit
from keras_winit import experiments

EPOCHS = 2

keras.utils.set_random_seed(0)
data = experiments.digits()
model = keras.Sequential([keras.Input((64,))], name="digits")
for number in range(1, 7):
    bad = number == 5
    layer = keras.layers.Dense(
        64,
        "tanh" if bad else "relu",
        kernel_initializer="winit>large_normal" if bad else "winit>he_normal",
        name="bad" if bad else f"hidden_{number}",
    )
    model.add(layer)
model.add(keras.layers.Dense(10, name="scores"))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01), loss)

monitor = keras_winit.ActivationMonitor(log_dir="logs", statistics="all", verbose=0)
model.fit(data.train_images, data.train_labels, epochs=EPOCHS, callbacks=[monitor], verbose=0)
print(monitor)
monitor.plot("health.png", kind="health")

steps, shares = monitor.history.curve("bad", "saturated_share")
print(f"\nsaturated in 'bad': {shares[0]:.0%} at step {steps[0]}, {shares[-1]:.0%} at {steps[-1]}")

command, tab, _ = keras_winit.monitor.TensorBoardWriter("logs").instructions().splitlines()
print(f"\nrun   {command}\nopen  {tab}")
