"""The report on a model before training: its signal by layer, predicted, measured and judged."""

from keras_winit.report.rows import LayerRow as LayerRow
from keras_winit.report.signal_report import SignalReport as SignalReport
from keras_winit.report.signal_report import signal_report as signal_report

__all__ = ["LayerRow", "SignalReport", "signal_report"]
