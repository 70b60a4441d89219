"""Parses the arguments, runs the subcommand and turns errors into exit codes."""

import argparse
import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from keras_winit_commands import (
    check,
    critical,
    demo,
    gain,
    list_schemes,
    propagate,
    rules,
    show,
)
from keras_winit_commands.errors import CommandError
from keras_winit_commands.parser import Parser
from keras_winit_commands.quiet import set_log_level

SUBCOMMANDS = (list_schemes, show, gain, critical, rules, propagate, check, demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    The code is 0 on success, 1 if the work failed, 2 for wrong arguments and 130 after Ctrl-C.
    An error is one line on the standard error.
    """
    set_log_level()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a root sign shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    code = 0
    try:
        try:
            options = _parser().parse_args(arguments)
            options.run(options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        pass  # The reader of the output, such as `head`, has ended.
    except KeyboardInterrupt:
        code = 130
    except (ValueError, TypeError) as error:
        code = _report(error, 2)
    except (CommandError, ModuleNotFoundError, OSError, MemoryError) as error:
        code = _report(error, 1)
    try:
        sys.stdout.flush()
    except OSError:
        # Nothing can be written any more. Python flushes again at exit and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _report(error: Exception, code: int) -> int:
    print(f"keras-winit: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


class _VersionAction(argparse.Action):
    """Prints the version of the installed package, so that `keras_winit` is not imported."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"keras-winit {importlib.metadata.version('keras-winit')}")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(prog="keras-winit", description="Weight initialization for Keras 3.")
    parser.add_argument(
        "--version", action=_VersionAction, nargs=0, help="print the version and exit"
    )
    subparsers = parser.add_subparsers(required=True, metavar="command", parser_class=Parser)
    for subcommand in SUBCOMMANDS:
        subcommand.add_parser(subparsers)
    return parser
