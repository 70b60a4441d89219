"""Protocols of the plain rows that pictures show, so that no other package is imported."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Record(Protocol):
    """Measurements of one training step, as in `keras_winit.monitor.Record`."""

    @property
    def step(self) -> int: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def statistics(self) -> tuple[str, ...]: ...
    @property
    def values(self) -> npt.NDArray[np.float32]: ...
    @property
    def variables(self) -> tuple[str, ...]: ...
    @property
    def variable_statistics(self) -> tuple[str, ...]: ...
    @property
    def variable_values(self) -> npt.NDArray[np.float32]: ...
    @property
    def edges(self) -> npt.NDArray[np.float64]: ...
    @property
    def counts(self) -> npt.NDArray[np.float32]: ...


class Finding(Protocol):
    """Something wrong with a layer, as in `ActivationMonitor.findings`."""

    @property
    def layer(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def consequences(self) -> Sequence["Finding"]: ...


class LayerOutput(Protocol):
    """Statistics of one layer's output, as in `keras_winit.experiments.LayerOutput`."""

    @property
    def mean(self) -> float: ...
    @property
    def stddev(self) -> float: ...
    @property
    def counts(self) -> Sequence[int]: ...
    @property
    def edges(self) -> Sequence[float]: ...


class Propagation(Protocol):
    """Statistics of a signal in a stack of layers, as `keras_winit.propagate` returns them."""

    @property
    def initializer(self) -> str: ...
    @property
    def activation(self) -> str: ...
    @property
    def batch_normalization(self) -> bool: ...
    @property
    def layers(self) -> Sequence[LayerOutput]: ...
