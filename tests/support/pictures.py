"""Makes records to draw, and reads pixels, cells and labels back from a picture."""

import numpy as np
from support.boards import FINDING

from keras_winit.monitor.records import Record

NAN, INF = float("nan"), float("inf")
STATISTICS = ("unit_stddev", "dead_share", "saturated_share", "nonfinite")
VARIABLE_STATISTICS = (
    "weight_norm",
    "gradient_norm",
    "update_norm",
    "update_ratio",
    "gradient_nonfinite",
)
# Four bins, the second of them around zero.
EDGES = np.array([-1.0, -1e-4, 1e-4, 1.0, 100.0])
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100000)


def record(step, signal, **columns):
    """Make a record of layers net/h0, net/h1, ..., each with a kernel and a bias.

    `signal` is the `unit_stddev` of the layers. `columns` are other statistics, by name.
    """
    count = len(signal)
    named = {"unit_stddev": signal, "dead_share": 0.25, "saturated_share": NAN, "nonfinite": 0}
    named |= {"weight_norm": 2, "gradient_norm": 1, "update_norm": 2e-3, "update_ratio": 1e-3}
    named |= {"gradient_nonfinite": 0} | columns
    layers = tuple(f"net/h{place}" for place in range(count))

    def table(names):
        columns = [np.broadcast_to(named[name], count) for name in names]
        return np.stack(columns, 1).astype("float32")

    kernels = table(VARIABLE_STATISTICS)
    biases = np.full_like(kernels, 7)
    return Record(
        step=step,
        layers=layers,
        statistics=STATISTICS,
        values=table(STATISTICS),
        variables=tuple(f"{name}/{end}" for name in layers for end in ("kernel", "bias")),
        variable_statistics=VARIABLE_STATISTICS,
        variable_values=np.stack([kernels, biases], 1).reshape(2 * count, kernels.shape[1]),
        edges=EDGES,
        counts=np.tile(np.array([0, 90, 9, 0], "float32"), (count, 1)),
        loss=0.5,
    )


def fading_run(depth, steps=STEPS):
    """Make the records of a network whose signal and gradient fade with depth."""
    fading = np.logspace(0, -3, depth)
    return [record(step, fading, gradient_norm=fading[::-1]) for step in steps]


def finding(layer, severity="error", consequences=()):
    return {**FINDING, "layer": layer, "severity": severity, "consequences": consequences}


def cells(picture, panel=0):
    """Return the values of a map, and which cells are black."""
    values, *black = (image.get_array() for image in picture.axes[panel].images)
    return values, ~np.ma.getmaskarray(black[0]) if black else np.zeros(values.shape, bool)


def render(picture):
    """Draw on a canvas whose renderer can be asked; return the pixels from the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(picture).draw()
    return np.asarray(picture.canvas.buffer_rgba())[:, :, :3]


def tick_labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]
