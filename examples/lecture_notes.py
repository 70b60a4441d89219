"""Runs an experiment for every claim of the CS231n notes on initialization; prints the numbers.

python examples/lecture_notes.py
"""

from keras_winit import HeNormal, propagate, symmetry

CLAIMS = [
    (
        "Zeros keep the symmetry: all units of a layer are equal, and stay equal.",
        lambda: symmetry("winit>zeros"),
    ),
    ("A constant keeps the symmetry, too.", lambda: symmetry("winit>constant")),
    ("Random weights break the symmetry.", lambda: symmetry("winit>lecun_normal")),
    (
        "With 0.01 * randn, a signal fades to nothing over ten tanh layers.",
        lambda: propagate("winit>small_normal", "tanh"),
    ),
    (
        "With 1 * randn, almost every unit is saturated at -1 or 1.",
        lambda: propagate("winit>large_normal", "tanh"),
    ),
    (
        "With randn / sqrt(fan_in), a signal passes through tanh layers.",
        lambda: propagate("winit>lecun_normal", "tanh"),
    ),
    (
        "With Xavier initialization it does, too.",
        lambda: propagate("winit>xavier_uniform", "tanh"),
    ),
    (
        "Each ReLU halves the mean square of the signal: a variance of 1 / fan_in is too small.",
        lambda: propagate("winit>lecun_normal", "relu"),
    ),
    (
        "He's variance of 2 / fan_in makes up for ReLU.",
        lambda: propagate("winit>he_normal", "relu"),
    ),
    (
        "A leaky ReLU takes less of the signal, and needs a smaller variance.",
        lambda: propagate(HeNormal(negative_slope=0.2), "leaky_relu"),
    ),
    (
        "Negative weights kill every ReLU after the first layer.",
        lambda: propagate("winit>negative_normal", "relu"),
    ),
    (
        "With ten random inputs per unit, the size of the signal does not depend on the width. "
        "Weights of stddev 0.01 are still too small.",
        lambda: propagate("winit>sparse", "tanh", width=1000),
    ),
    (
        "Batch normalization makes up for weights that are too small.",
        lambda: propagate("winit>small_normal", "tanh", batch_normalization=True),
    ),
]


def main():
    for claim, experiment in CLAIMS:
        print(f"# {claim}\n\n{experiment()}\n", flush=True)


if __name__ == "__main__":
    main()
