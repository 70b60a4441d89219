"""Reads what was captured from the device, keeps it, diagnoses it and hands it to writers."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_winit.monitor.capture.layout import NUMBER, Layout, read
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.findings import Finding, Findings
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules import Rule
from keras_winit.monitor.diagnosis.unrecorded_step import explain_non_finite_loss
from keras_winit.monitor.error_text import one_line
from keras_winit.monitor.output.finding_reporter import FindingReporter
from keras_winit.monitor.output.history import History
from keras_winit.monitor.processes import is_chief
from keras_winit.monitor.records import Record
from keras_winit.monitor.warning import warn

# Seconds that captured steps may stay on the device, to be read together: one by one, between
# steps that fill the caches with something else, reading takes three times as long.
MAX_DELAY = 0.1


class Recording:
    """The records and findings of a run.

    Args:
        rules: Rules to apply to each record.
        keep: Number of records to keep in memory. None: all.
        writers: Writers of records and findings. One that fails is removed from the list.
        reporter: Prints findings and acts on them.
        on_record: Called with each record before it is kept.
        model_facts: Returns what the rules need to know of the model.
        on_failure: Called with the reason if reading fails.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        keep: int | None,
        writers: list[Any],
        reporter: FindingReporter,
        on_record: Callable[[Record], None],
        model_facts: Callable[[], ModelFacts],
        on_failure: Callable[[str], None],
    ) -> None:
        self.history, self.writers = History(keep), writers
        self._diagnosis, self._reporter = Diagnosis(rules), reporter
        self._on_record, self._model_facts = on_record, model_facts
        self._on_failure = on_failure
        # Steps whose vectors are still on the device, with the layouts to read them by.
        self._pending: list[tuple[int, list[Layout], Any]] = []
        self._pending_since, self._reading = 0.0, False
        self._unreported: list[Finding] = []
        # The findings as the writers know them.
        self._written: list[dict[str, Any]] = []

    @property
    def findings(self) -> Findings:
        """The findings so far, consequences folded under their causes; the worst first."""
        return self._diagnosis.findings

    def add(self, step: int, layouts: list[Layout], packed: Any) -> None:
        """Take the packed vector of a step, which may still be on the device."""
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.append((step, layouts, packed))

    def is_due(self, awaited: bool) -> bool:
        """Return whether to read and report now.

        Args:
            awaited: Whether somebody waits for the records.
        """
        waited = time.monotonic() - self._pending_since > MAX_DELAY
        return bool(self._unreported or (self._pending and (awaited or waited)))

    def settle(self, model: Any) -> None:
        """Read everything, then report what was found in the training of a model."""
        self.read()
        if self._unreported:
            new, self._unreported = self._unreported, []
            self._reporter.report(new, self.findings, model)

    def read(self) -> None:
        """Take everything from the device; after an interrupt the rest is still there."""
        if self._reading or not self._pending:
            return
        self._reading = True
        try:
            for record in self._pending_records():
                del self._pending[0]
                self._take(record)
        except Exception as error:
            self._pending = []
            self._on_failure(one_line(error))
        finally:
            self._reading = False

    def _pending_records(self) -> list[Record]:
        """Read the pending vectors, those of one layout in a row together."""
        records = []
        on_host = [
            (step, layouts, _vectors_on_host(packed)) for step, layouts, packed in self._pending
        ]

        def layout_of(pending: tuple[int, list[Layout], npt.NDArray[np.float32]]) -> Layout:
            return pending[1][int(pending[2][0, NUMBER])]

        for layout, group in itertools.groupby(on_host, layout_of):
            steps, _, vectors = zip(*group, strict=True)
            records += read(layout, steps, np.stack(vectors))
        return records

    def _take(self, record: Record) -> None:
        self._on_record(record)
        self.history.append(record)
        self.write(lambda writer: writer.write(record))
        if not self._diagnosis.rules:
            return
        self._take_findings(self._diagnosis(record, self._model_facts()))

    def _take_findings(self, new: list[Finding]) -> None:
        self.history.findings = self.findings
        if new:
            self._unreported += new
            self.write_findings()

    def add_non_finite_loss(self, step: int, loss: float, batches: Sequence[Any] | None) -> None:
        """Diagnose a loss that is not finite at a step that has no record.

        Args:
            step: Number of the step.
            loss: The loss.
            batches: Batches of the step, or the whole data. None if they are unknown.
        """
        self.read()
        violations = explain_non_finite_loss(step, loss, batches, self._diagnosis.records)
        self._take_findings(self._diagnosis.add(violations, step))

    def resume(self) -> None:
        """Let the rules go on after a non-finite value, because a new `fit` begins."""
        self._diagnosis.resume()

    def write_findings(self) -> None:
        """Hand the findings to the writers, if they have changed."""
        if not self.writers:
            return
        rows = [finding.as_dict() for finding in self.findings]
        if rows != self._written:
            self._written, step = rows, self.history.records[-1].step
            self.write(lambda writer: writer.write_findings(step, rows))

    def write(self, action: Callable[[Any], None]) -> None:
        """Do something with each writer, in the chief process; one that fails is removed."""
        if self.writers and not is_chief():
            return
        for writer in list(self.writers):
            try:
                action(writer)
            except Exception as error:
                self.writers.remove(writer)
                with suppress(Exception):
                    writer.close()
                warn(
                    f"`{writer!r}` writes no more, training goes on. Received: {one_line(error)}",
                    stacklevel=2,
                )


def _vectors_on_host(packed: Any) -> npt.NDArray[np.float32]:
    # `np.asarray` of a tensor that is not on the host would warn with NumPy 2.
    return np.asarray(packed.cpu() if keras.backend.backend() == "torch" else packed)
