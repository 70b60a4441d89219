"""Findings are reported when they come up and when they get worse."""

import copy
import pickle

import pytest
from support.monitored import fit, tiny

from keras_winit import ActivationMonitor
from keras_winit.monitor import FindingError, Rule, Violation, Writer


class GetsWorse(Rule):
    """Finds a warning at steps 0 and 1 and an error from step 2 on."""

    id = "gets_worse"
    severity = "warning"

    def check(self, view):
        yield Violation("dense", 1.0, severity="error" if view.step > 1 else None)


class FindingsCollector(Writer):
    def __init__(self):
        self.calls = []

    def write(self, record):
        pass

    def write_findings(self, step, findings):
        rows = ((row["severity"], row["step"], row["hits"]) for row in findings)
        self.calls.append((step, *rows))


def test_a_finding_is_reported_when_it_gets_worse_and_written_as_long_as_it_lasts():
    writer, reported = FindingsCollector(), []
    monitor = ActivationMonitor(
        every=1, verbose=0, rules=[GetsWorse()], writers=[writer], on_finding=reported.append
    )
    fit(tiny(), monitor, epochs=3)
    assert [(finding.severity, finding.step) for finding in reported] == [
        ("warning", 0),
        ("error", 2),
    ]
    # Calls come at each step that changes a severity, and at the end of each epoch of two steps.
    assert writer.calls == [
        (0, ("warning", 0, 1)),
        (1, ("warning", 1, 2)),
        (2, ("error", 2, 3)),
        (3, ("error", 3, 4)),
        (5, ("error", 5, 6)),
    ]


def test_a_finding_error_can_be_copied_to_another_process():
    monitor = ActivationMonitor(every=1, verbose=0, rules=[GetsWorse()], on_finding="raise")
    with pytest.raises(FindingError) as caught:
        fit(tiny(), monitor)
    for copied in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert str(copied) == str(caught.value)
        assert copied.finding == caught.value.finding
