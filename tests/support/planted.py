"""Records of a healthy model with planted faults, and what the rules find in them."""

import numpy as np

from keras_winit.models.layers import KernelInfo, LayerInfo
from keras_winit.monitor import RULES, Record
from keras_winit.monitor.capture.plan import LAYER, VARIABLE
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.model_facts import ModelFacts

NAMES = ("a", "b", "c", "head")
HEALTHY_LAYER = dict(zip(LAYER, (0.0, 0.5, 0.5, -2, 2, 0.1, 0.1, 6, 0.01, 0, 10.0), strict=True))
# Targets that suit every loss and lie within reach of every activation.
HEALTHY_TARGETS = {"min": 0.0, "max": 1.0}
HEALTHY_VARIABLE = dict(zip(VARIABLE, (8.0, 0.1, 0.01, 0.00125, 0, 0.0, 0.0), strict=True))


def make_part(name, **options):
    hidden = name != "head"
    kernel = KernelInfo(f"{name}/kernel", 64 * 64, "kernel", (1,), (1 / 64, 2 / 64))
    defaults = {
        "kernels": (kernel,),
        "activation": "relu",
        "hidden": hidden,
        "takes_raw_input": name == "a",
    }
    return LayerInfo(name, "Dense", **{**defaults, **options})


def make_facts(parts=None, **options):
    """Make facts about the layers `NAMES`, with other options for some parts."""
    made = {name: make_part(name, **(parts or {}).get(name, {})) for name in NAMES}
    return ModelFacts(parts=made, **options)


def make_record(
    step=0, layers=None, variables=None, loss=2.3, inputs=None, targets=None, samples=()
):
    """Make a healthy record, except for given statistics of layers, variables and data.

    `samples` are the entries of each unit, by layer.
    """
    rows = [{**HEALTHY_LAYER, **(layers or {}).get(name, {})} for name in NAMES]
    kernels = [{**HEALTHY_VARIABLE, **(variables or {}).get(name, {})} for name in NAMES]
    input_row = {**HEALTHY_LAYER, **(inputs or {})}
    target_row = {**HEALTHY_LAYER, **HEALTHY_TARGETS, **(targets or {})}
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
        input_values=np.array([[input_row[s] for s in LAYER]], "float32"),
        targets=("target",),
        target_values=np.array([[target_row[s] for s in LAYER]], "float32"),
        unit_samples=np.array(samples, "float32"),
    )


def make_records(count, start=0, **options):
    return [make_record(step, **options) for step in range(start, start + count)]


def findings_in(records, facts=None, rules=RULES):
    diagnosis = Diagnosis(rules)
    for record in records:
        diagnosis(record, facts or make_facts())
    return diagnosis.findings


def rule_named(rule_id):
    return next(rule for rule in RULES if rule.id == rule_id)
