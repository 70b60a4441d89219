"""The callback that watches the layers of a model while it trains."""

import functools
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_winit.models.layers import LayerInfo, describe_layers
from keras_winit.models.names import Names
from keras_winit.monitor import arguments
from keras_winit.monitor.capture.collector import Watch, reason
from keras_winit.monitor.capture.layout import NUMBER, read
from keras_winit.monitor.capture.plan import Plan
from keras_winit.monitor.capture.step_counter import Steps
from keras_winit.monitor.capture.train_function import Keep, Once, Tapped, note_loops
from keras_winit.monitor.diagnosis.engine import Diagnosis
from keras_winit.monitor.diagnosis.findings import Finding, Findings
from keras_winit.monitor.diagnosis.model_facts import ModelFacts, collect_model_facts
from keras_winit.monitor.diagnosis.rules import RULES, Rule
from keras_winit.monitor.output.finding_reporter import FindingReporter, print_safely
from keras_winit.monitor.output.history import History
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import ends_in_mark

# For so many seconds a record may wait to be read together with others: one by one, between
# steps that fill the caches with something else, takes three times as long.
LONGEST = 0.1

# How many compiled functions are kept: one for each company of monitors at a step, of which
# three make four.
FUNCTIONS = 8

# Of pictures, in `keras_winit.plots`.
KINDS = ("layers", "health", "strips", "profile", "updates")


class ActivationMonitor(keras.callbacks.Callback):
    """Statistics of every layer and variable, from the training step itself.

    On the steps that `every` chooses, a second train function takes the place of the
    model's for one call. It does the same and measures besides: the real batch in training
    mode, each call of each layer, the gradients as the optimizer gets them and the updates
    it makes of them. Between these steps nothing is different from training without the
    monitor; the training itself never is.

    What was measured may wait on the device for a tenth of a second, to be read together with
    what comes after. Who looks at `history` or `findings` sees all, and where there are
    writers, or `on_finding` is not "warn", nothing waits.

    With another model it starts anew, in memory and in the files of `log_dir`; a run that is
    to stay in TensorBoard takes a monitor with a `log_dir` of its own.

    Args:
        log_dir: Where TensorBoard looks. None: nothing is written.
        every: Watch each step of which this is a divisor, or a predicate `step -> bool`.
            Steps count on over several `fit`. None: 0, 1, 2, 3, 5, 8, 12, 20, 30, then
            every 50.
        layers: What to watch: a pattern of names such as "dense*" or, of what lies within a
            block, "block1/*"; a layer or a layer class, a predicate `layer -> bool`, or
            several of them. None: every layer, save those that hold others without work of
            their own or only reshape.
        statistics: Names out of `keras_winit.monitor.STATISTICS`, or "all". None: all but
            "quantiles" and "histogram", which cost more.
        samples: Reduce only the first samples of each batch, at least 1. None: all.
        keep: How many records stay in memory, the last ones, at least 1: writers have them
            all. None: every one.
        writers: More places to write to, see `keras_winit.monitor.Writer`.
        verbose: "auto" prints what the rules find when it comes up, if it is more than an
            "info", to the standard error; 1 or 2 all of it, and the table at the end of each
            epoch; 0 nothing.
        on_finding: What else to do with a warning or an error that comes up. "warn": nothing.
            "raise": raise a `FindingError` that names the layer. "stop": end `fit` after the
            step. Or a function of the `Finding`, which gets an "info" too.
        rules: To apply to each watched step, see `keras_winit.monitor.Rule`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a number is too small, a statistic, an action or `verbose` unknown, or
            two rules have one `id`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> model.compile("sgd", "mse")
        >>> monitor = keras_winit.ActivationMonitor()
        >>> x, y = keras.ops.ones((8, 4)), keras.ops.ones((8, 2))
        >>> history = model.fit(x, y, callbacks=[monitor], verbose=0)
        >>> [row["statistic"] for row in monitor.history][:3]
        ['loss', 'mean', 'stddev']
    """

    def __init__(
        self,
        log_dir: str | PathLike[str] | None = None,
        every: int | Callable[[int], bool] | None = None,
        layers: Any = None,
        statistics: str | Sequence[str] | None = None,
        samples: int | None = None,
        keep: int | None = None,
        writers: Sequence[Any] = (),
        verbose: int | str = "auto",
        on_finding: str | Callable[[Finding], Any] = "warn",
        rules: Sequence[Rule] = RULES,
    ) -> None:
        super().__init__()
        self.every, self.layers, self.verbose = every, layers, verbose
        instances = "instances of `keras_winit.monitor.Rule`"
        rules = arguments.several("rules", rules, lambda one: isinstance(one, Rule), instances)
        self.on_finding, self.rules = on_finding, tuple(rules)
        self._reporter = FindingReporter(verbose, on_finding)
        self._due = arguments.schedule(every)
        self._chosen = arguments.choice(layers)
        for name, number in (("samples", samples), ("keep", keep)):
            if number is not None:
                arguments.require_whole(name, number)
        self.plan = Plan(arguments.statistics(statistics), samples)
        self._history = History(keep)
        self._diagnosis = Diagnosis(self.rules, keep)
        writes = "writers, such as `JsonLinesWriter(path)` of `keras_winit.monitor`"
        self.writers = arguments.several("writers", writers, _writes, writes)
        if log_dir is not None:
            from keras_winit.monitor.output.writers import TensorBoardWriter

            self.writers.insert(0, TensorBoardWriter(log_dir))
        self._steps = Steps()
        self._parts: dict[int, LayerInfo] | None = None
        self._resting: ModelFacts | None = None
        # Steps and what they measured, still on the device; since when there is any.
        self._unread: list[tuple[int, Any]] = []
        self._since, self._reading = 0.0, False
        # What has come up and not been told yet.
        self._new: list[Finding] = []
        # What writers know of.
        self._written: list[dict[str, Any]] = []
        self._watched: Any = None
        self._names: Any = None
        # The model's own train function, when it was last looked at.
        self._function: Any = None
        self._watch: Watch | None = None
        # By what is watched: another monitor may want the same step.
        self._tapped: dict[tuple[Watch, ...], Tapped] = {}
        self._began = self._epoch_began = True
        self._ended = self._noted = False

    def __str__(self) -> str:
        return str(self.history)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: all that was measured and found, and no model."""
        self._read()
        without = {"_model": None, "params": None, "_due": None, "_chosen": None}
        without |= {"_function": None, "_watched": None, "_names": None, "_watch": None}
        without |= {"_parts": None, "_resting": None}
        return {**self.__dict__, **without, "_tapped": {}, "_steps": Steps()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._due = arguments.schedule(self.every)
        self._chosen = arguments.choice(self.layers)

    @property
    def history(self) -> History:
        """All that was measured so far."""
        self._read()
        return self._history

    @property
    def findings(self) -> Findings:
        """What the rules have found so far, one for each cause; the worst first."""
        self._read()
        return self._diagnosis.findings

    def _repr_html_(self) -> str:
        if not self.history.records:
            return "<p>nothing was measured yet</p>"
        return self.findings._repr_html_()

    def reset(self) -> None:
        """Forget all that was measured and found."""
        self._history = History(self._history.keep)
        if self._watch is not None:
            self._history.unseen = self._watch.unseen
        self._diagnosis = Diagnosis(self.rules, self._history.keep)
        self._reporter = FindingReporter(self.verbose, self.on_finding)
        self._unread, self._new, self._written = [], [], []
        self._steps = Steps(self._watched)

    def plot(self, path: str | PathLike[str] | None = None, kind: str = "layers") -> Any:
        """Draw what was measured, as the function of that name in `keras_winit.plots`.

        Args:
            path: Where to save the picture; the ending chooses the format. None: nowhere.
            kind: "layers", "health", "strips" (needs "histogram"), "profile" or "updates".

        Returns:
            The matplotlib figure.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            OSError: If `path` cannot be written.
            ValueError: If there is no such kind, or what it shows was not measured.
        """
        from keras_winit import plots

        if kind not in KINDS:
            raise ValueError(
                f"`ActivationMonitor.plot(kind=...)` must be one of {', '.join(KINDS)}. "
                f"Received: kind={kind!r}."
            )
        return getattr(plots, kind)(self.history.records, path, self.findings)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        # Not `self.model`, which on JAX gathers and scatters the whole state.
        model = model if isinstance(model, keras.Model) else getattr(model, "module", None)
        if model is not self._watched:
            self._read()
            if self._watched is not None and self._history.records:
                _warn(
                    "`ActivationMonitor` starts anew with another model; what it measured of "
                    f"{self._watched.name!r} is no longer in its `history`"
                )
                self.reset()
                self._write(lambda writer: writer.close())
            self._watched, self._function = model, None
            self._look_anew()
            self._steps = Steps(model)
            self._noted = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._disarm()
        self._read()
        self._diagnosis.resume()
        function = getattr(self._watched, "train_function", None)
        if self._ended or function is None or function is not self._function:
            # What was in the way may be gone; or compiled anew, maybe with other layers.
            self._ended, self._function = False, function
            self._look_anew()
        self._began = True
        # Here, as JAX takes the variables' values away during an epoch.
        self._parts = self._resting = None
        if self.rules and self._watched.built:
            self._look_at_rest()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_began = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        try:
            if self._epoch_began:
                seen = self.history.records
                self._steps.compare(self._began, seen[-1].step + 1 if seen else 0)
                self._began = self._epoch_began = False
            block = self._steps.take()
            if not self._ended and any(self._due(step) for step in block):
                self._arm(block)
        except Exception as error:
            self._end(reason(error))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Somebody waits for it, or it has waited long enough.
        waits = bool(self.writers) or self.on_finding != "warn"
        if self._new or (self._unread and (waits or time.monotonic() - self._since > LONGEST)):
            self._settle()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._settle()
        # Of what goes on, only its steps are new.
        self._write_findings()
        self._write(lambda writer: writer.flush())
        if self.verbose not in (0, "auto"):
            print_safely(str(self), sys.stdout)

    def on_train_end(self, logs: Any = None) -> None:
        self._disarm()
        try:
            self._steps.compare()
        except Exception as error:
            self._end(reason(error))
        # A writer need not know of ends.
        self._write(lambda writer: getattr(writer, "end", writer.flush)())

    def close(self) -> None:
        """Close what it writes to."""
        self._write(lambda writer: writer.close())

    def _arm(self, block: range) -> None:
        model, plain = self._watched, self._watched.train_function
        if not self._unread:
            self._since = time.monotonic()
        keeps: dict[Watch, Keep] = {}
        if isinstance(plain, Once):
            plain, keeps = plain.plain, {**plain.keeps}
        keeps[self._watch or self._look()] = functools.partial(self._keep, block)
        watches = tuple(keeps)
        tapped = self._tapped.get(watches)
        if tapped is None or tapped.beside is not plain:
            model.train_function = plain
            tapped = self._tapped[watches] = Tapped(model, watches)
            if len(self._tapped) > FUNCTIONS:
                # Of monitors beside this one that nobody has any more.
                del self._tapped[next(iter(self._tapped))]
        model.train_function = Once(model, plain, tapped, keeps)

    def _look_anew(self) -> None:
        self._watch, self._tapped = None, {}
        self._names = Names(self._watched, ends_in_mark)

    def _look(self) -> Watch:
        kind = type(self._watched)
        if not kind.make_train_function.__module__.startswith("keras."):
            raise TypeError(f"{kind.__name__} makes its own train function")
        self._watch = Watch(self.plan, self._wanted, self._names)
        self._watch.last_words = self._settle
        self._history.unseen = self._watch.unseen
        return self._watch

    def _wanted(self, layer: Any) -> bool:
        return layer is not self._watched and self._chosen(layer, self._names.of)

    def _disarm(self) -> None:
        """Whatever an interrupted `fit` has left."""
        left = getattr(self._watched, "train_function", None)
        if isinstance(left, Once):
            self._watched.train_function = left.plain

    def _keep(self, block: range, packed: Any, ran: int) -> None:
        """Take what a step measured; None if it could not be traced with the taps."""
        watch = self._watch
        if watch is None:
            return  # An interrupt has left it, of a model before this one.
        if packed is None:
            self._end(watch.broken)
            return
        try:
            self._unread.append((self._steps.last(block, ran), packed))
        except Exception as error:
            self._end(reason(error))

    def _settle(self) -> None:
        """Read all there is, and tell of it."""
        self._read()
        if self._new:
            new, self._new = self._new, []
            self._reporter.report(new, self._diagnosis.findings, self._watched)

    def _read(self) -> None:
        """Take what has been measured from the device; an interrupt leaves the rest there."""
        if self._reading or not self._unread:
            return
        self._reading = True
        try:
            for record in self._records():
                del self._unread[0]
                self._take(record)
        except Exception as error:
            self._unread = []
            self._end(reason(error))
        finally:
            self._reading = False

    def _records(self) -> list[Record]:
        """Of all that is unread; steps in a row that have the same layout together."""
        found, layouts = [], self._watch.layouts if self._watch else []
        taken = [(step, _on_host(packed)) for step, packed in self._unread]
        for number, group in itertools.groupby(taken, lambda one: int(one[1][0, NUMBER])):
            steps, vectors = zip(*group, strict=True)
            found += read(layouts[number], steps, np.stack(vectors))
        return found

    def _take(self, record: Record) -> None:
        if not self._noted and self._watch is not None:
            self._noted = True
            # Whoever chooses layers by a predicate may not have thought of cells.
            with suppress(Exception):
                note_loops(self._watched, self._watch)
            if self.layers and self.plan.of_layers and not (record.layers or self._watch.unseen):
                self._warn_of_nothing()
        self._history.append(record)
        self._write(lambda writer: writer.write(record))
        self._diagnose(record)

    def _warn_of_nothing(self) -> None:
        parts = self._watched._flatten_layers(include_self=False)
        names = [
            self._names.of(part) for part in parts if not isinstance(part, arguments.UNWATCHED)
        ]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        _warn(
            "`ActivationMonitor(layers=...)` fits no layer that ran. Received: "
            f"layers={self.layers!r}. The model has {', '.join(names[:8])}{more}."
        )

    def _look_at_rest(self) -> None:
        try:
            self._parts = describe_layers(self._watched, self._names)
        except Exception as error:
            self._parts = {}
            _warn(f"`ActivationMonitor` knows little of the model. Received: {reason(error)}")

    def _diagnose(self, record: Record) -> None:
        if not self.rules:
            return
        if self._resting is None:
            if self._parts is None:
                self._look_at_rest()
            self._resting = collect_model_facts(self._watched, self._parts or {}, self._watch)
        new = self._diagnosis(record, self._resting)
        self._history.findings = self._diagnosis.findings
        if new:
            self._new += new
            self._write_findings()

    def _write_findings(self) -> None:
        """If there is anything to say that was not written yet."""
        if not self.writers:
            return
        rows = [finding.as_dict() for finding in self._diagnosis.findings]
        if rows != self._written:
            self._written, step = rows, self._history.records[-1].step
            self._write(lambda writer: writer.write_findings(step, rows))

    def _end(self, why: str | None) -> None:
        self._ended = True
        _warn(f"`ActivationMonitor` watches no more, training goes on. Received: {why}")

    def _write(self, act: Callable[[Any], None]) -> None:
        for writer in list(self.writers):
            try:
                act(writer)
            except Exception as error:
                self.writers.remove(writer)
                with suppress(Exception):
                    writer.close()
                _warn(f"`{writer!r}` writes no more, training goes on. Received: {reason(error)}")


def _on_host(packed: Any) -> npt.NDArray[np.float32]:
    """Without a copy: NumPy 2 complains of how others make one."""
    return np.asarray(packed.cpu() if keras.backend.backend() == "torch" else packed)


def _writes(one: Any) -> bool:
    return callable(getattr(one, "write", None))


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
