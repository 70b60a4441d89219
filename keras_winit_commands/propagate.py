"""`keras-winit propagate`: prints the statistics of a random signal, layer by layer."""

from argparse import Namespace

from keras_winit_commands.arguments import activation, initializer, picture_file
from keras_winit_commands.parser import Subparsers, add_integer, add_subcommand


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit propagate`."""
    parser = add_subcommand(
        subparsers, "propagate", run, "propagate N(0, 1) inputs through a stack of dense layers"
    )
    parser.add_argument(
        "--init",
        action="append",
        required=True,
        type=initializer,
        metavar="NAME",
        help="initializer of the kernels, such as winit>he_normal; repeat it to compare several",
    )
    parser.add_argument(
        "--activation",
        default="tanh",
        type=activation,
        metavar="NAME",
        help="activation of every layer (default: tanh)",
    )
    add_integer(parser, "--depth", 1, 10, "number of layers")
    add_integer(parser, "--width", 1, 500, "units of each layer")
    add_integer(parser, "--samples", 1, 1000, "number of inputs")
    add_integer(parser, "--seed", 0, 0, "seed of the inputs and the kernels")
    parser.add_argument(
        "--batch-normalization",
        action="store_true",
        help="normalize the pre-activations of every layer over the samples",
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE", help="also draw the results, as a .png"
    )


def run(options: Namespace) -> None:
    """Print one table for each initializer, and draw them if a picture was asked for."""
    from keras_winit_commands.library import keras_winit

    results = []
    for name in options.init:
        result = keras_winit.experiments.propagate(
            name,
            activation=options.activation,
            depth=options.depth,
            width=options.width,
            samples=options.samples,
            seed=options.seed,
            batch_normalization=options.batch_normalization,
        )
        results.append(result)
        print(result, end="\n\n", flush=True)
    if options.plot:
        keras_winit.plots.propagation(results, options.plot)
        print(f"drawn: {options.plot}")
