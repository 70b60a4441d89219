"""`keras-winit check`: reports on a saved model before it is trained, and repairs it."""

import zipfile
from argparse import Namespace
from typing import Any

from keras_winit_commands.arguments import initializer, model_file, picture_file, saved_model
from keras_winit_commands.errors import CommandError
from keras_winit_commands.parser import Subparsers, add_integer, add_subcommand

# Ways of `--with` that are no names of initializers.
AUTO, LSUV = "auto", "lsuv"


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit check`."""
    parser = add_subcommand(
        subparsers, "check", run, "report on a saved model before it is trained, and repair it"
    )
    parser.add_argument("model", type=model_file, metavar="MODEL", help="the model, a .keras file")
    parser.add_argument(
        "--data", metavar="FILE", help="a batch of inputs, as a .npy file (default: random inputs)"
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE", help="also draw the report, as a .png"
    )
    parser.add_argument(
        "--fix",
        type=saved_model,
        metavar="FILE",
        help="save the model with new weights to this .keras file",
    )
    parser.add_argument(
        "--with",
        dest="way",
        default=AUTO,
        type=_way,
        metavar="WAY",
        help="new weights for --fix: auto, lsuv or the name of an initializer (default: auto)",
    )
    add_integer(parser, "--seed", 0, 0, "seed of random inputs and of new weights")


def _way(text: str) -> str:
    return text if text in (AUTO, LSUV) else initializer(text)


def run(options: Namespace) -> None:
    """Print the report, and with `--fix` the changes and the verdicts before and after."""
    from keras_winit_commands.library import keras_winit

    model, data = _load(options.model), None if options.data is None else _batch(options.data)
    try:
        before = keras_winit.signal_report(model, data, seed=options.seed)
    except (ValueError, TypeError, OSError, MemoryError):
        raise
    except Exception as error:  # A backend's own, or one of a layer that is not Keras'.
        raise CommandError(f"{options.model} cannot be run. Received: {error!r}") from None
    print(before)
    if options.plot:
        before.plot(options.plot)
        print(f"drawn: {options.plot}")
    if options.fix:
        _fix(model, data, before, options)


def _load(path: str) -> Any:
    from keras_winit_commands.library import keras

    try:
        return keras.models.load_model(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise CommandError(f"{path} cannot be loaded. Received: {error}") from None


def _batch(path: str) -> Any:
    from keras_winit_commands.library import numpy

    try:
        # Pickled objects could run code.
        return numpy.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{path} is no array of numbers. Received: {error}") from None


def _fix(model: Any, data: Any, before: Any, options: Namespace) -> None:
    """Give the model new weights, save it, and print what changed."""
    from keras_winit_commands.library import keras_winit

    if options.way == LSUV:
        from keras_winit.report.data import report_batch

        batch, _ = report_batch(model, data, None, None, options.seed)
        changes = keras_winit.lsuv(model, batch, seed=options.seed)
    else:
        changes = keras_winit.reinitialize(model, options.way, seed=options.seed)
    after = keras_winit.signal_report(model, data, seed=options.seed)
    model.save(options.fix)
    print(f"\n{changes}\n")
    print(*_comparison(before.rows, after.rows), sep="\n")
    print(f"\nbefore: {before.verdict}\nafter:  {after.verdict}")
    print(f"saved: {options.fix}")


def _comparison(before: Any, after: Any) -> list[str]:
    """Return a table of the spread and the gradient of each layer, before and after."""
    width = max(5, *(len(row.layer) for row in before))
    headings = ("spread before", "after", "gradient before", "after")
    lines = ["layer".ljust(width) + "".join(text.rjust(17) for text in headings)]
    for old, new in zip(before, after, strict=True):
        values = (old.unit_stddev, new.unit_stddev, old.gradient, new.gradient)
        lines.append(old.layer.ljust(width) + "".join(f"{value:17.3g}" for value in values))
    return lines
