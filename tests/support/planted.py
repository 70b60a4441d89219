"""Samples with a fault planted in them, and what the rules find there."""

import numpy as np

from keras_winit.models.layers import KernelInfo, LayerInfo
from keras_winit.monitor import RULES, Record
from keras_winit.monitor.capture.plan import LAYER, VARIABLE
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.rules import Model

NAMES = ("a", "b", "c", "head")
GOOD = dict(zip(LAYER, (0.0, 0.5, 0.5, -2, 2, 0.1, 0.1, 6, 0.01, 0, 10.0), strict=True))
FINE = dict(zip(VARIABLE, (8.0, 0.1, 0.01, 0.00125, 0, 0.0, 0.0), strict=True))


def part(name, **options):
    hidden = name != "head"
    kernel = KernelInfo(f"{name}/kernel", 64 * 64, "kernel", (1,), (1 / 64, 2 / 64))
    known = {
        "kernels": (kernel,),
        "activation": "relu",
        "hidden": hidden,
        "takes_raw_input": name == "a",
    }
    return LayerInfo(name, "Dense", **{**known, **options})


def model(parts=None, **options):
    made = {name: part(name, **(parts or {}).get(name, {})) for name in NAMES}
    return Model(parts=made, **options)


def sample(step=0, layers=None, variables=None, loss=2.3, fed=None):
    """A healthy sample, but for what is given by layer and statistic."""
    rows = [{**GOOD, **(layers or {}).get(name, {})} for name in NAMES]
    kernels = [{**FINE, **(variables or {}).get(name, {})} for name in NAMES]
    fed = {**GOOD, **(fed or {})}
    return Record(
        step=step,
        layers=NAMES,
        statistics=LAYER,
        values=np.array([[row[s] for s in LAYER] for row in rows], "float32"),
        variables=tuple(f"{name}/kernel" for name in NAMES),
        variable_statistics=VARIABLE,
        variable_values=np.array([[row[s] for s in VARIABLE] for row in kernels], "float32"),
        edges=np.zeros(0),
        counts=np.zeros((4, 0), "float32"),
        loss=loss,
        inputs=("input",),
        input_values=np.array([[fed[s] for s in LAYER]], "float32"),
    )


def found(samples, known=None, rules=RULES, keep=None):
    diagnosis = Diagnosis(rules, keep)
    for one in samples:
        diagnosis(one, known or model())
    return diagnosis.findings


def run(count, start=0, **options):
    return [sample(step, **options) for step in range(start, start + count)]


def rule(name):
    return next(one for one in RULES if one.id == name)
