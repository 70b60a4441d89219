"""Experiments of the CS231n lecture notes, run on real Keras layers."""

from keras_winit.experiments.digits import Digits as Digits
from keras_winit.experiments.digits import digits as digits
from keras_winit.experiments.digits import digits_classifier as digits_classifier
from keras_winit.experiments.digits import train_on_digits as train_on_digits
from keras_winit.experiments.propagation import LayerOutput as LayerOutput
from keras_winit.experiments.propagation import Propagation as Propagation
from keras_winit.experiments.propagation import propagate as propagate
from keras_winit.experiments.symmetry_breaking import Symmetry as Symmetry
from keras_winit.experiments.symmetry_breaking import symmetry as symmetry

__all__ = [
    "Digits",
    "LayerOutput",
    "Propagation",
    "Symmetry",
    "digits",
    "digits_classifier",
    "propagate",
    "symmetry",
    "train_on_digits",
]
