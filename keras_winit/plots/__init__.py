"""Pictures of measurements, drawn with matplotlib: one file for each picture."""

from keras_winit.plots.figures import Unmeasured as Unmeasured
from keras_winit.plots.figures import figure as figure
from keras_winit.plots.health import health as health
from keras_winit.plots.kernel import kernel as kernel
from keras_winit.plots.layers import layers as layers
from keras_winit.plots.profile import profile as profile
from keras_winit.plots.propagation import propagation as propagation
from keras_winit.plots.signal import signal as signal
from keras_winit.plots.strips import strips as strips
from keras_winit.plots.updates import updates as updates

__all__ = [
    "Unmeasured",
    "figure",
    "health",
    "kernel",
    "layers",
    "profile",
    "propagation",
    "signal",
    "strips",
    "updates",
]
