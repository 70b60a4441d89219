"""Sparse initialization: each unit is connected to ten random inputs.

Ten inputs per unit keep the size of a pre-activation the same at any width, while that of a dense
kernel with the same weights grows with the square root of the width. Look at the two columns of
numbers: one is the same at each width, the other doubles from row to row. But ten connections do
not make any size of weights right: with a standard deviation of 0.01, as in the notes, the signal
of ten tanh layers vanishes, and with 1/sqrt(10) it is kept. The last two lines and the picture show
both.
"""

# %%
import keras
import numpy as np

import keras_winit

sizes = {}
rng = np.random.default_rng(0)
print("width   sparse   dense     root mean square of pre-activations, weights from N(0, 0.1²)")
for width in (100, 400, 1600):
    x = rng.normal(size=(200, width)).astype("float32")
    schemes = keras_winit.Sparse(stddev=0.1, seed=0), keras_winit.LargeNormal(stddev=0.1, seed=0)
    kernels = [keras.ops.convert_to_numpy(scheme((width, width))) for scheme in schemes]
    sizes[width] = [np.sqrt(np.mean((x @ kernel) ** 2)) for kernel in kernels]
    print(f"{width:5}   {sizes[width][0]:.3f}    {sizes[width][1]:.3f}")

# %% The histograms of ten tanh layers of 500 units
results = [
    keras_winit.propagate("winit>sparse", "tanh"),
    keras_winit.propagate(keras_winit.Sparse(stddev=10**-0.5), "tanh"),
]
for result in results:
    print(f"{result.initializer}: stddev {result.layers[-1].stddev:.2g} in layer 10")
keras_winit.plots.propagation(results, "sparse.png")
