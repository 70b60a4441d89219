"""The error that a subcommand raises when its work fails."""


class CommandError(Exception):
    """Carries a message for the user; `main` prints it and returns exit code 1."""
