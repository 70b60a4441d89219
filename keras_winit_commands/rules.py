"""`keras-winit rules`: prints the rules that the training monitor checks."""

from argparse import Namespace
from typing import TYPE_CHECKING

from keras_winit_commands.markdown import markdown_table
from keras_winit_commands.parser import Subparsers, add_subcommand

if TYPE_CHECKING:
    from keras_winit.monitor import Rule

HEADER = ("rule", "severity", "fires when", "threshold", "steps in a row", "remedy")


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of `keras-winit rules`."""
    parser = add_subcommand(
        subparsers, "rules", run, "list the rules of the training monitor with their remedies"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(options: Namespace) -> None:
    """Print the rules, as a Markdown table or with all their fields."""
    from keras_winit_commands.library import keras_winit

    if options.markdown:
        print(markdown_table(HEADER, map(_table_row, keras_winit.monitor.RULES)))
        return
    for rule in keras_winit.monitor.RULES:
        print(f"{rule.id} ({rule.severity})")
        for label, text in (
            ("fires when", rule.fires),
            ("applies to", rule.applies),
            ("statistic", rule.statistic),
            ("threshold", f"{rule.threshold:g}"),
            ("threshold basis", rule.origin),
            ("healthy", rule.healthy),
            ("steps in a row", rule.persistence),
            ("cause", rule.cause),
            ("remedy", rule.remedy),
        ):
            print(f"  {label:15}  {text}")
        print()


def _table_row(rule: "Rule") -> tuple[str, ...]:
    threshold, steps = f"{rule.threshold:g}", str(rule.persistence)
    return (f"`{rule.id}`", rule.severity, rule.fires, threshold, steps, rule.remedy)
