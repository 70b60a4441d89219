"""`keras-winit list`: prints the table of all schemes."""

from argparse import Namespace

from keras_winit_commands.markdown import markdown_table
from keras_winit_commands.parser import Subparsers, add_subcommand

HEADER = ("name", "formula", "when to use", "source")


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit list`."""
    parser = add_subcommand(
        subparsers, "list", run, "list every scheme with its formula, its use and its source"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(options: Namespace) -> None:
    """Print one row for each scheme, as a Markdown table or in aligned columns."""
    from keras_winit_commands.library import keras_winit

    schemes = keras_winit.initializers.REGISTRY.values()
    table = [(cls.identifier, cls.formula, cls.use, cls.source) for cls in schemes]
    if options.markdown:
        print(markdown_table(HEADER, [(f"`{name}`", *row) for name, *row in table]))
        return
    widths = [max(map(len, column)) for column in zip(HEADER, *table, strict=True)]
    for row in (HEADER, *table):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
