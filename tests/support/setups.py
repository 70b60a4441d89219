"""Reads the setups of small models, and applies the rules to them without any training."""

import keras
from support.planted import make_record

from keras_winit.models.graph import try_trace
from keras_winit.models.layers import describe_layers
from keras_winit.models.names import Names
from keras_winit.models.setup import collect_setup
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.model_facts import ModelFacts


def setup_of(model):
    """Return the setup of a built model; one that is not compiled is compiled with mse."""
    if not model.compiled:
        model.compile("sgd", "mse")
    names, trace = Names(model), try_trace(model)
    parts = describe_layers(model, names, trace)
    return collect_setup(model, parts, names, trace)


def found(setup, *records, **facts):
    """Return the findings that a setup gives with some records, by their rules."""
    diagnosis = Diagnosis()
    for record in records or (make_record(),):
        diagnosis(record, ModelFacts(setup=setup, **facts))
    return {finding.rule: finding for finding in diagnosis.findings}


def stack(*layers, inputs=(8,)):
    """Return a sequential model."""
    return keras.Sequential([keras.Input(inputs), *layers])
