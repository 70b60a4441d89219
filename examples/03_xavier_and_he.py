"""Xavier and He: the variance of the weights follows the number of inputs and the activation.

Look at the column "stddev" of the tables, or at the top right panel of each picture. Weights with
variance 1 / fan_in keep a signal in tanh layers; Xavier's 2 / (fan_in + fan_out) is the same here,
where all layers are equally wide. Each ReLU sets half of its inputs to zero and so halves the mean
square of the signal: with 1 / fan_in, the standard deviation falls to about 1/23 from layer 1 to
layer 10, which is sqrt(1/2) to the power of nine. He's variance of 2 / fan_in makes up for it.
"""

# %% tanh
import keras_winit

tanh = [
    keras_winit.propagate(scheme, "tanh")
    for scheme in ("winit>lecun_normal", "winit>xavier_normal")
]
keras_winit.plots.propagation(tanh, "xavier_tanh.png")

# %% ReLU
relu = [keras_winit.propagate(name, "relu") for name in ("winit>xavier_normal", "winit>he_normal")]
keras_winit.plots.propagation(relu, "xavier_and_he_relu.png")

# %% The same in numbers
for result in (*tanh, *relu):
    first, last = result.layers[0].stddev, result.layers[-1].stddev
    name = f"{result.activation}, {result.initializer}"
    print(f"{name:26}  stddev {first:.3f} in layer 1, {last:.3f} in layer 10")

# %% Other activations need other variances: gain² / fan_in, and `nonlinearity=` sets the gain.
for name in ("relu", "leaky_relu", "gelu", "selu", "tanh"):
    scheme = keras_winit.LecunNormal(nonlinearity=name)
    print(f"{scheme!r:40}  gain {keras_winit.gain(name):.3f}")
