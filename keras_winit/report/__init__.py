"""The report on a model before training: its signal by layer, predicted, measured and judged."""

from keras_winit.report.reporting import SignalReport as SignalReport
from keras_winit.report.reporting import signal_report as signal_report
from keras_winit.report.rows import LayerRow as LayerRow

__all__ = ["LayerRow", "SignalReport", "signal_report"]
