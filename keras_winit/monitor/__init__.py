"""What watches training: taps, statistics by layer and step, writers."""

from keras_winit.monitor.callback import ActivationMonitor as ActivationMonitor
from keras_winit.monitor.history import History as History
from keras_winit.monitor.measure import ALL as STATISTICS
from keras_winit.monitor.records import Sample as Sample

__all__ = ["STATISTICS", "ActivationMonitor", "History", "Sample"]
