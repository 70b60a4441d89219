"""`keras-winit gain`: prints the gains of an activation."""

from argparse import Namespace

from keras_winit_commands.parser import Subparsers, add_subcommand

MODES = {
    "second_moment": "preserves the second moment of signals: 1 / sqrt(E[f(z)^2])",
    "centered": "preserves the variance of signals: 1 / sqrt(Var[f(z)])",
    "backward": "preserves the second moment of gradients: 1 / sqrt(E[f'(z)^2])",
    "torch": "the value of torch.nn.init.calculate_gain",
}


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit gain`."""
    parser = add_subcommand(
        subparsers,
        "gain",
        run,
        "print the gains of an activation, factors for the stddev of weights",
    )
    parser.add_argument("activation", metavar="NAME", help="an activation of Keras, such as gelu")
    parser.add_argument("--mode", choices=list(MODES), help="print the gain of this mode only")


def run(options: Namespace) -> None:
    """Print the gain of one mode, or the gains of all modes and chi_1."""
    from keras_winit_commands.library import keras_winit

    name = options.activation
    if options.mode:
        print(f"{keras_winit.gain(name, options.mode):.10g}")
        return
    for mode, meaning in MODES.items():
        try:
            text = f"{keras_winit.gain(name, mode):.10g}"
        except ValueError:
            # An activation without this gain is unknown, or its output vanishes or diverges:
            # it has none of the other gains either.
            if mode == "second_moment":
                raise
            text = "none"
        print(f"{mode:14}  {text:12}  {meaning}")
    chi_1 = keras_winit.theory.mean_field.chi_1(name, 1.0, keras_winit.gain(name))
    print(
        f"{'chi_1':14}  {chi_1:<12.10g}  growth of squared gradients per layer under second_moment"
    )
