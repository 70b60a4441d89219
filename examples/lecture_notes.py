"""Every claim of the lecture notes on initialization, as an experiment that prints numbers.

python examples/lecture_notes.py
"""

from keras_winit import HeNormal, propagate, symmetry

CLAIMS = [
    (
        "Zeros never break the symmetry: all units are and stay equal.",
        lambda: symmetry("winit>zeros"),
    ),
    ("Nor does one constant.", lambda: symmetry("winit>constant")),
    ("Random weights do.", lambda: symmetry("winit>lecun_normal")),
    (
        "0.01 * randn fades to nothing over ten tanh layers.",
        lambda: propagate("winit>small_normal", "tanh"),
    ),
    (
        "1 * randn saturates almost every unit at -1 or 1.",
        lambda: propagate("winit>large_normal", "tanh"),
    ),
    (
        "randn / sqrt(fan_in) keeps a signal through tanh ...",
        lambda: propagate("winit>lecun_normal", "tanh"),
    ),
    ("... and so does Xavier's.", lambda: propagate("winit>xavier_uniform", "tanh")),
    (
        "ReLU takes half of it each time: 1 / fan_in is too little ...",
        lambda: propagate("winit>lecun_normal", "relu"),
    ),
    ("... and He's 2 / fan_in just right.", lambda: propagate("winit>he_normal", "relu")),
    ("Leaky ReLUs take less.", lambda: propagate(HeNormal(negative_slope=0.2), "leaky_relu")),
    (
        "All-negative weights kill every ReLU behind a ReLU.",
        lambda: propagate("winit>negative_normal", "relu"),
    ),
    (
        "Ten random inputs a unit: as small weights as before, at any width.",
        lambda: propagate("winit>sparse", "tanh", width=1000),
    ),
    (
        "Batch normalization forgives a bad start.",
        lambda: propagate("winit>small_normal", "tanh", batch_normalization=True),
    ),
]


def main():
    for claim, experiment in CLAIMS:
        print(f"# {claim}\n\n{experiment()}\n", flush=True)


if __name__ == "__main__":
    main()
