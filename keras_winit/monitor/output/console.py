"""What happens when something is found: it is printed, and acted upon."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO

import keras

from keras_winit.monitor.diagnosis.findings import Finding, FindingError, Findings


class Teller:
    """Prints what has come up, each cause once and again if it gets worse; then acts.

    Args:
        verbose: "auto" prints warnings and errors, 0 nothing, 1 and 2 all.
        on_finding: "warn", "raise", "stop" or a function.

    Raises:
        ValueError: If the action, or what to print, is unknown.
    """

    def __init__(self, verbose: int | str, on_finding: str | Callable[[Finding], Any]) -> None:
        if verbose != "auto" and not (isinstance(verbose, int) and verbose in (0, 1, 2)):
            raise ValueError(
                "`ActivationMonitor(verbose=...)` must be 'auto', 0, 1 or 2. "
                f"Received: verbose={verbose!r}."
            )
        if not callable(on_finding) and on_finding not in ("warn", "raise", "stop"):
            raise ValueError(
                "`ActivationMonitor(on_finding=...)` must be 'warn', 'raise', 'stop' or a "
                f"function. Received: on_finding={on_finding!r}."
            )
        self._verbose, self._on_finding = verbose, on_finding
        # How bad what was told already was.
        self._told: dict[tuple[str, str], str] = {}

    def __call__(self, new: Sequence[Finding], findings: Findings, model: Any) -> None:
        """Tell of what is new among the findings of a model in training.

        Raises:
            FindingError: If that is the action, and there is more than an "info".
        """
        ruined = any(finding.rule == "non_finite" for finding in new)
        told = [finding for finding in findings if self._is_news(finding, ruined)]
        self._told |= {(finding.rule, finding.layer): finding.severity for finding in told}
        bad = [finding for finding in told if finding.severity != "info"]
        shown = Findings({"auto": bad, 0: []}.get(self._verbose, told))
        if shown:
            say(f"\n{shown}", sys.stderr)
        if callable(self._on_finding):
            for finding in told:
                self._on_finding(finding)
        elif bad and self._on_finding == "stop":
            model.stop_training = True
        elif bad and self._on_finding == "raise":
            if keras.backend.backend() == "jax":
                # Else the weights of this epoch are lost.
                model.jax_state_sync()
            raise FindingError(bad[0])

    def _is_news(self, finding: Finding, ruined: bool) -> bool:
        ends = any(one.rule == "non_finite" for one in (finding, *finding.consequences))
        worse = self._told.get((finding.rule, finding.layer)) != finding.severity
        return worse or (ruined and ends)


def say(text: str, stream: TextIO | None) -> None:
    """Print it, with "?" for what the stream's encoding lacks.

    Where nobody can read it, as the stream is closed or the disk full, nothing happens.
    """
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):
        print(text.encode(encoding, "replace").decode(encoding), file=stream)
