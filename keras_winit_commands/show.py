"""`keras-winit show`: prints what is known of one scheme, and draws a kernel of it."""

import inspect
from argparse import Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from keras_winit_commands.arguments import picture_file, scheme
from keras_winit_commands.parser import Subparsers, add_subcommand

if TYPE_CHECKING:
    from keras_winit.initializers import Scheme

# `--plot` draws the first of these shapes that the scheme accepts: fans that differ and enough
# values to see their distribution, then a square kernel, two convolution kernels and a bias.
SHAPES = ((256, 384), (256, 256), (3, 3, 64, 128), (4, 4, 64, 128), (4096,))


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit show`."""
    parser = add_subcommand(
        subparsers, "show", run, "show the arguments and the documentation of one scheme"
    )
    parser.add_argument("scheme", type=scheme, metavar="NAME", help="a scheme, such as sparse")
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE", help="also draw a histogram of one kernel"
    )


def run(options: Namespace) -> None:
    """Print the scheme, and draw one of its kernels if a picture was asked for."""
    cls = options.scheme
    parameters = inspect.signature(cls).parameters.values()
    unannotated = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    print(f'kernel_initializer="{cls.identifier}"')
    print(f"keras_winit.{cls.__name__}{inspect.Signature(unannotated)}")
    print(f"\nformula      {cls.formula}\nwhen to use  {cls.use}\nsource       {cls.source}\n")
    print(inspect.getdoc(cls))
    if options.plot:
        from keras_winit_commands.library import keras_winit

        keras_winit.plots.kernel(_draw_kernel(cls), options.plot, cls.identifier)
        print(f"\ndrawn: {options.plot}")


def _draw_kernel(cls: type["Scheme"]) -> Any:
    from keras_winit_commands.library import keras, keras_winit

    # The shape of a bias does not tell the fan_in of its layer.
    arguments = {"fan_in": 256} if "fan_in" in cls().get_config() else {}
    instance = keras_winit.initializers.wrapping.reseeded(cls(**arguments), 0)
    *shapes, last = SHAPES
    for shape in shapes:
        with suppress(ValueError):
            return keras.ops.convert_to_numpy(instance(shape))
    return keras.ops.convert_to_numpy(instance(last))
