"""What watches training: taps, statistics by layer and step, writers."""

from keras_winit.monitor import writers as writers
from keras_winit.monitor.callback import ActivationMonitor as ActivationMonitor
from keras_winit.monitor.check import check as check
from keras_winit.monitor.findings import Finding as Finding
from keras_winit.monitor.findings import FindingError as FindingError
from keras_winit.monitor.findings import Findings as Findings
from keras_winit.monitor.history import History as History
from keras_winit.monitor.plan import ALL as STATISTICS
from keras_winit.monitor.records import Sample as Sample
from keras_winit.monitor.rules import RULES as RULES
from keras_winit.monitor.rules import Offence as Offence
from keras_winit.monitor.rules import Rule as Rule
from keras_winit.monitor.rules import View as View

__all__ = [
    "RULES",
    "STATISTICS",
    "ActivationMonitor",
    "Finding",
    "FindingError",
    "Findings",
    "History",
    "Offence",
    "Rule",
    "Sample",
    "View",
    "check",
    "writers",
]
