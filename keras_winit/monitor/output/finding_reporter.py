"""Reports findings: prints them, then stops training, raises an error or calls a function."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO

import keras

from keras_winit.models.elapsed import require_verbosity
from keras_winit.monitor.diagnosis.findings import Finding, FindingError, Findings
from keras_winit.monitor.processes import is_chief


class FindingReporter:
    """Prints each finding once, and again when its severity changes; then acts on it.

    Args:
        verbose: "auto" prints warnings and errors, 0 nothing, 1 and 2 infos as well.
        on_finding: "warn", "raise", "stop" or a function of a `Finding`.

    Raises:
        ValueError: If `verbose` or `on_finding` has another value.
    """

    def __init__(self, verbose: int | str, on_finding: str | Callable[[Finding], Any]) -> None:
        require_verbosity("ActivationMonitor", verbose)
        named = isinstance(on_finding, str) and on_finding in ("warn", "raise", "stop")
        if not named and not callable(on_finding):
            raise ValueError(
                "`ActivationMonitor(on_finding=...)` must be 'warn', 'raise', 'stop' or a "
                f"function. Received: on_finding={on_finding!r}."
            )
        self._verbose, self._on_finding = verbose, on_finding
        self._reported_severities: dict[tuple[str, str], str] = {}

    def report(self, new: Sequence[Finding], findings: Findings, model: Any) -> None:
        """Print and act on the findings that were not reported yet.

        Args:
            new: Findings that came up or changed their severity since the last call.
            findings: All findings, consequences folded under their causes.
            model: The model in training.

        Raises:
            FindingError: If `on_finding` is "raise" and a warning or an error is reported.
        """
        nonfinite_is_new = any(finding.rule == "non_finite" for finding in new)
        reported = [
            finding
            for finding in findings
            if self._has_changed(finding) or (nonfinite_is_new and _leads_to_nonfinite(finding))
        ]
        self._reported_severities |= {_key(finding): finding.severity for finding in reported}
        serious = [finding for finding in reported if finding.severity != "info"]
        if self._verbose != 0 and is_chief():
            printed = Findings(serious if self._verbose == "auto" else reported)
            if printed:
                print_safely(f"\n{printed}", sys.stderr)
        if callable(self._on_finding):
            for finding in reported:
                self._on_finding(finding)
        elif serious and self._on_finding == "stop":
            model.stop_training = True
        elif serious and self._on_finding == "raise":
            if keras.backend.backend() == "jax":
                # During an epoch the weights are outside the model; the error would lose them.
                model.jax_state_sync()
            raise FindingError(serious[0])

    def _has_changed(self, finding: Finding) -> bool:
        return self._reported_severities.get(_key(finding)) != finding.severity


def _key(finding: Finding) -> tuple[str, str]:
    return finding.rule, finding.layer


def _leads_to_nonfinite(finding: Finding) -> bool:
    """Return whether a finding is, or explains, NaN or infinite values."""
    return any(each.rule == "non_finite" for each in (finding, *finding.consequences))


def print_safely(text: str, stream: TextIO | None) -> None:
    """Print a text, with "?" for characters that the stream's encoding lacks.

    Print nothing if the stream is missing or closed, or its disk is full.
    """
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):
        print(text.encode(encoding, "replace").decode(encoding), file=stream)
