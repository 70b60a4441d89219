"""Small and large normals: signals that vanish, and units that are saturated.

Inputs from N(0, 1) pass through ten tanh layers of 500 units. Look at the column "stddev". With
weights `0.01 * randn` each layer makes the signal five times smaller, and after ten layers nothing
is left. With `1 * randn` the column "saturated" is the one to read: more than nine of ten outputs
are close to -1 or 1, where tanh is flat. In the picture, the first row of histograms shrinks to a
needle at zero, and the second has two needles at -1 and 1.

The last lines show the gradient, on its way back from layer 10 to layer 1. With small weights it
vanishes like the signal. With large weights it passes only through the few units that are not
saturated, but large weights multiply it there: it explodes. Xavier keeps it within a factor of 3.
"""

# %%
import keras

import keras_winit

SCHEMES = ("winit>small_normal", "winit>large_normal")

results = [keras_winit.propagate(scheme, "tanh") for scheme in SCHEMES]
print(*results, sep="\n\n")
keras_winit.plots.propagation(results, "small_and_large.png")

# %% The gradient pays for both: a report measures it in a network of ten such layers.
gradients = {}
for scheme in (*SCHEMES, "winit>xavier_normal"):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(100, "tanh", kernel_initializer=scheme) for _ in range(10)]
    report = keras_winit.signal_report(keras.Sequential([keras.Input((100,)), *layers]))
    gradients[scheme] = report.rows[0].gradient / report.rows[-1].gradient
    print(f"{scheme:20}  gradient in layer 1 / in layer 10: {gradients[scheme]:.1e}")
