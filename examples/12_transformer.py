"""A transformer with right fans: attention kernels, and branches scaled for the depth.

The kernel of a query has the shape (32, 4, 8): 32 inputs, 4 heads of 8 units. An initializer that
takes it for a convolution counts 128 inputs. Look at the first two numbers: inside its layer the
scheme knows the axes and keeps the mean square at 1; called with the bare shape it gives 1/4. Then
look at the last lines: the residual stream of 12 blocks grows with each block from Keras' default,
and much less from `reinitialize(residual="gpt2")`, which divides each branch by sqrt(2 * blocks).
"""

import keras
import numpy as np

import keras_winit

BLOCKS, DIM, HEADS, STEPS = 12, 32, 4, 16
layers = keras.layers


def transformer():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((STEPS, DIM))
    for number in range(BLOCKS):
        normal = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(HEADS, DIM // HEADS, name=f"attention_{number}")
        x = layers.Add(name=f"after_attention_{number}")([x, attention(normal, normal)])
        normal = layers.LayerNormalization()(x)
        hidden = layers.Dense(4 * DIM, "gelu", name=f"up_{number}")(normal)
        hidden = layers.Dense(DIM, name=f"down_{number}")(hidden)
        x = layers.Add(name=f"after_mlp_{number}")([x, hidden])
    return keras.Model(inputs, layers.LayerNormalization(name="end")(x), name="transformer")


x = np.random.default_rng(0).normal(size=(32, STEPS, DIM)).astype("float32")
attention = layers.MultiHeadAttention(HEADS, DIM // HEADS, kernel_initializer="winit>lecun_normal")
attention.build(x.shape, x.shape)
inside = keras.ops.convert_to_numpy(attention.query_dense.kernel)
bare = keras.ops.convert_to_numpy(keras_winit.LecunNormal(seed=0)(inside.shape))
squares = [np.mean(np.einsum("btd,dhk->bthk", x, kernel) ** 2) for kernel in (inside, bare)]
print(f"mean square of the queries: {squares[0]:.2f} in the layer, {squares[1]:.2f} by the shape")

models = {"Keras' default": transformer(), 'residual="gpt2"': transformer()}
print("\nfans of the first block, as (fan_in, fan_out):")
for name, fans in [*keras_winit.fans(models["Keras' default"]).items()][:6]:
    print(f"  {name}: {fans}")

keras_winit.reinitialize(models['residual="gpt2"'], seed=0, residual="gpt2")
print("\nstandard deviation of the residual stream after blocks 1, 6 and 12:")
growth = {}
for name, model in models.items():
    rows = {row.layer: row for row in keras_winit.signal_report(model, x).rows}
    stream = [rows[f"after_mlp_{number}"].stddev for number in (0, 5, 11)]
    growth[name] = stream[-1] / stream[0]
    print(f"  {name:16}", "  ".join(f"{stddev:.2f}" for stddev in stream))
