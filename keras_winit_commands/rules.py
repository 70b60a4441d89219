"""`keras-winit rules`: prints the rules that the training monitor checks."""

from argparse import Namespace

from keras_winit_commands.parser import Subparsers, add_subcommand


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
        print("| rule | severity | fires when | threshold | steps in a row | remedy |")
        print("| --- | --- | --- | --- | --- | --- |")
        for rule in keras_winit.monitor.RULES:
            cells = (f"`{rule.id}`", rule.severity, rule.fires, f"{rule.threshold:g}")
            row = (*cells, str(rule.persistence), rule.remedy)
            print(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        return
    for rule in keras_winit.monitor.RULES:
        print(f"{rule.id}  {rule.severity}, {rule.statistic} {rule.threshold:g}")
        for label in ("fires", "applies", "healthy", "cause", "remedy", "origin"):
            print(f"  {label:8} {getattr(rule, label)}")
        print(f"  steps    {rule.persistence} in a row\n")
