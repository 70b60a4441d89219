"""`keras-winit critical`: prints the critical point of an activation."""

import sys
import warnings
from argparse import Namespace

from keras_winit_commands.arguments import number
from keras_winit_commands.parser import Subparsers, add_subcommand


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit critical`."""
    parser = add_subcommand(
        subparsers,
        "critical",
        run,
        "print the critical point of an activation, where gradients neither grow nor vanish",
    )
    parser.add_argument("activation", metavar="NAME", help="an activation of Keras, such as tanh")
    condition = parser.add_mutually_exclusive_group(required=True)
    condition.add_argument(
        "--bias-stddev", type=number, metavar="X", help="standard deviation of the biases"
    )
    condition.add_argument("--q", type=number, metavar="X", help="variance of the pre-activations")


def run(options: Namespace) -> None:
    """Print the critical point, and its warnings on the standard error."""
    from keras_winit_commands.library import keras_winit

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(keras_winit.critical_point(options.activation, options.bias_stddev, options.q))
    for warning in caught:
        print(f"keras-winit: warning: {warning.message}", file=sys.stderr)
