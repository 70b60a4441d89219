"""Pictures of what was measured, drawn with matplotlib."""

from keras_winit.plots.base import Unmeasured as Unmeasured
from keras_winit.plots.base import figure as figure
from keras_winit.plots.experiments import kernel as kernel
from keras_winit.plots.experiments import propagation as propagation
from keras_winit.plots.lines import profile as profile
from keras_winit.plots.lines import updates as updates
from keras_winit.plots.maps import health as health
from keras_winit.plots.overview import layers as layers
from keras_winit.plots.strips import strips as strips

__all__ = [
    "Unmeasured",
    "figure",
    "health",
    "kernel",
    "layers",
    "profile",
    "propagation",
    "strips",
    "updates",
]
