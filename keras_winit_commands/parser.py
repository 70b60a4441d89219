"""Argument parsers, which report an error in one line."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from keras_winit_commands.arguments import integer_from

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """Takes no abbreviated options, and reports an error without the usage text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the message on one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def add_subcommand(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> Parser:
    """Add the parser of a subcommand, whose work `run` does."""
    parser = subparsers.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.set_defaults(run=run)
    return parser


def add_integer(parser: Parser, option: str, least: int, default: int, meaning: str) -> None:
    """Add an option that takes an integer from `least` to 2**32 - 1."""
    text = f"{meaning} (default: {default})"
    parser.add_argument(option, default=default, type=integer_from(least), metavar="N", help=text)
