"""The base of writers that log curves to a run of an experiment tracker."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from keras_winit.monitor.output.curves import CURVES, VARIABLE_CURVES, curve_points
from keras_winit.monitor.output.writers.writer import Writer
from keras_winit.monitor.records import Record


class RunWriter(Writer):
    """Base of writers that log curves and findings to a run that the program started.

    A writer takes the run that is active at the first record of a training. It never starts or
    ends a run.

    Args:
        run: The run to log to. Defaults to None: the active run.
        curves: Names of layer statistics that get curves: minimum, median and maximum over all
            layers under `winit`, and one curve for each layer under `winit_<statistic>`. Defaults
            to "stddev", "dead_share" and "saturated_share".
        variable_curves: Names of variable statistics that get one curve for each variable.
            Defaults to "gradient_norm" and "update_ratio".
        max_curves: Largest number of layers (or variables) that get curves of their own; if there
            are more, none does. Pre-activations do not count. Defaults to 64.

    Raises:
        ModuleNotFoundError: If the library is missing.
    """

    # The library, which is also the name of the extra that installs it, and how to start a run.
    library: ClassVar[str]
    start: ClassVar[str]

    def __init__(
        self,
        run: Any = None,
        curves: Sequence[str] = CURVES,
        variable_curves: Sequence[str] = VARIABLE_CURVES,
        max_curves: int = 64,
    ) -> None:
        self._given_run, self._run = run, None
        self._curves, self._variable_curves = tuple(curves), tuple(variable_curves)
        self._max_curves = max_curves
        self._load()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __getstate__(self) -> dict[str, Any]:
        # Runs cannot be copied. A copy logs to the run that is active then.
        return {**self.__dict__, "_given_run": None, "_run": None}

    def write(self, record: Record) -> None:
        points = curve_points(record, self._curves, self._variable_curves, self._max_curves)
        self.log(self._current_run(), record.step, points)

    def end(self) -> None:
        # The program may end its run now, and start another one before the next training.
        self._run = None

    def close(self) -> None:
        self._run = None

    @abstractmethod
    def active_run(self) -> Any:
        """Return the active run of the library; None if there is none."""

    def begin(self, run: Any) -> None:
        """Prepare a run for the curves. Called before the first record of each training."""

    @abstractmethod
    def log(self, run: Any, step: int, points: Mapping[str, float]) -> None:
        """Log the points of one step, by the names of their curves."""

    def _current_run(self) -> Any:
        if self._run is None:
            run = self._given_run if self._given_run is not None else self.active_run()
            if run is None:
                raise ValueError(
                    f"`{type(self).__name__}` needs a run. Received: run=None, and none is active. "
                    f"Call `{self.start}` before `fit`."
                )
            self.begin(run)
            self._run = run
        return self._run

    def _load(self) -> Any:
        """Import the library."""
        try:
            return import_module(self.library)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"`{type(self).__name__}` needs {self.library}. Install it with "
                f'`pip install "keras-winit[{self.library}]"`.'
            ) from error
