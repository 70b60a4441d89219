"""Zeros and constants: units that start equal stay equal.

Look at the columns "different at the start" and "after training". With zeros, and with any other
constant, all 16 units of a layer get the same gradient at every step, so that the layer computes
what a single unit could. Random weights give 16 different units. The handwritten digits show the
price: a network of equal units does hardly better than guessing, which is right for 10 % of them.
"""

# %%
import keras

import keras_winit
from keras_winit import experiments

SCHEMES = ("winit>zeros", "winit>constant", "winit>he_normal")
EPOCHS = 3

results = [keras_winit.symmetry(scheme) for scheme in SCHEMES]
print(*results, sep="\n\n")

# %% Three classifiers with two hidden ReLU layers, equal up to the scheme of their kernels.
keras.utils.set_random_seed(0)
data = experiments.digits()
models = [experiments.digits_classifier(scheme, depth=2) for scheme in SCHEMES]
*_, accuracies = experiments.train_on_digits(models, data, EPOCHS)
for scheme, accuracy in zip(SCHEMES, accuracies, strict=True):
    print(f"{scheme:16}  {accuracy:6.1%} of the test digits after {EPOCHS} epochs")
