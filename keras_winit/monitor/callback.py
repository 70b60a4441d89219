"""`ActivationMonitor`: the callback that watches a model while it trains."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from typing import Any

import keras

from keras_winit import plots
from keras_winit.models.names import Names
from keras_winit.monitor import arguments
from keras_winit.monitor.capture.capture import Capture
from keras_winit.monitor.capture.kept_batches import KeptBatches
from keras_winit.monitor.capture.plan import Plan
from keras_winit.monitor.capture.step_counter import StepCounter
from keras_winit.monitor.capture.switch import Switch
from keras_winit.monitor.capture.train_function import note_layers_in_loops
from keras_winit.monitor.diagnosis.findings import Finding, Findings
from keras_winit.monitor.diagnosis.model_facts import ModelFacts
from keras_winit.monitor.diagnosis.rules import RULES, Rule
from keras_winit.monitor.error_text import one_line
from keras_winit.monitor.logged_loss import LoggedLoss
from keras_winit.monitor.model_description import ModelDescription
from keras_winit.monitor.output.finding_reporter import FindingReporter, print_safely
from keras_winit.monitor.output.history import History
from keras_winit.monitor.processes import is_chief
from keras_winit.monitor.recording import Recording
from keras_winit.monitor.records import Record
from keras_winit.monitor.row_names import ends_in_mark
from keras_winit.monitor.warning import warn

# Pictures of `keras_winit.plots` that `ActivationMonitor.plot` draws.
KINDS = ("layers", "health", "strips", "profile", "updates")

OWN_LOOP = (
    "a step that did not call the model's train function. In a training loop of your own, as for "
    "torch's DistributedDataParallel, use `keras_winit.signal_report(model, batch)`"
)


class ActivationMonitor(keras.callbacks.Callback):
    """Records statistics of every layer and variable from the training step itself.

    On the steps that `every` chooses, a second train function takes the place of the model's
    for one call. It does the same and measures besides: the real batch in training mode, each
    call of each layer, the gradients as the optimizer gets them and the updates that it makes.
    Between these steps only the logged loss is looked at: if it is not finite, the step is
    reported, with the NaN or infinite values of its batch. The training itself never differs
    from training without the monitor.

    Measurements may stay on the device for a tenth of a second, to be read together with those
    of later steps. `history` and `findings` always hold all of them; with writers, or if
    `on_finding` is not "warn", nothing waits.

    Under `tf.distribute.MirroredStrategy` a record covers the batches of all replicas, `samples`
    counts on each of them, and quantiles are averaged over them.

    If several processes train together by `keras.distribution` on JAX, each keeps the records of
    the whole batch, and only the process of index 0 writes and prints. Keras' `fit` itself fails
    under `tf.distribute.MultiWorkerMirroredStrategy`. A training loop of one's own, which torch's
    `DistributedDataParallel` needs, cannot be watched: the monitor warns of it and ends.

    With another model the monitor starts anew, in memory and in the files of `log_dir`. To keep
    both runs in TensorBoard, use a monitor with its own `log_dir` for each model.

    Args:
        log_dir: Directory of TensorBoard logs to write to. Defaults to None: none is written.
        every: Record every `every`-th step, or the steps for which a predicate `every(step)`
            is true. Steps count on over several `fit` calls. Defaults to None: steps 0, 1, 2,
            3, 5, 8, 12, 20, 30, then every 50th.
        layers: Layers to watch: a pattern of names such as "dense*", or "block1/*" for those
            within a block; a layer, a layer class, a predicate `layer -> bool`, or a list of
            these. Defaults to None: every layer, except models that only contain other layers,
            and layers that only reshape.
        statistics: Names out of `keras_winit.monitor.STATISTICS`, or "all". Defaults to None:
            all except "quantiles" and "histogram", which cost more.
        samples: Number of samples of each batch to measure, the first ones; at least 1.
            Defaults to None: all.
        keep: Number of records to keep in memory, the last ones; at least 1. Writers get all
            records. Defaults to None: all.
        writers: Further writers, see `keras_winit.monitor.Writer`. Defaults to none.
        verbose: "auto" prints warnings and errors that the rules find to the standard error; 1
            or 2 print infos as well, and the table at the end of each epoch to the standard
            output; 0 prints nothing. Defaults to "auto".
        on_finding: Reaction to a new warning or error. "warn" does nothing more, "raise" raises
            a `FindingError` that names the layer, "stop" ends `fit` after the step. A function
            is called with each `Finding`, infos included. Defaults to "warn".
        rules: Rules to apply to each record, see `keras_winit.monitor.Rule`. Defaults to
            `keras_winit.monitor.RULES`.

    Raises:
        TypeError: At construction, if an argument is of the wrong type.
        FileNotFoundError: At construction, if `log_dir` is relative and the working directory was
            deleted.
        ValueError: At construction, if a number is too small, if a statistic, `on_finding` or
            `verbose` is unknown, or if two rules have the same `id`.

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
        self.every = every
        self.layers, self.verbose = layers, verbose
        instances = "instances of `keras_winit.monitor.Rule`"
        rules = arguments.several("rules", rules, lambda one: isinstance(one, Rule), instances)
        self.on_finding, self.rules = on_finding, tuple(rules)
        reporter = FindingReporter(verbose, on_finding)
        self._is_chosen = arguments.choice(layers)
        for name, number in (("samples", samples), ("keep", keep)):
            if number is not None:
                arguments.require_whole(name, number)
        self.plan, self._keep = Plan(arguments.statistics(statistics), samples), keep
        writes = "writers, such as `JsonLinesWriter(path)` of `keras_winit.monitor`"
        self.writers = arguments.several("writers", writers, _is_writer, writes)
        if log_dir is not None:
            from keras_winit.monitor.output.writers.tensorboard import TensorBoardWriter

            self.writers.insert(0, TensorBoardWriter(log_dir))
        self._recording = self._new_recording(reporter)
        self._steps, self._switch = StepCounter(), Switch()
        # The watched model, the names of its layers, its description for the rules, and what is
        # captured from it.
        self._watched: Any = None
        self._names: Any = None
        self._description: Any = None
        self._capture: Capture | None = None
        # The steps of the running call of the train function, and whether it is recorded.
        self._block, self._is_recorded = range(0), False
        self._logged_loss = LoggedLoss()
        # The model's own train function, as last seen.
        self._function: Any = None
        self._fit_began = self._epoch_began = True
        # The batch in progress, and whether this `fit` has this monitor twice.
        self._batch: int | None = None
        self._is_doubled = False
        self._ended = self._first_seen = False

    def _new_recording(self, reporter: FindingReporter) -> Recording:
        return Recording(
            self.rules,
            self._keep,
            self.writers,
            reporter,
            on_record=self._note_once,
            model_facts=self._model_facts,
            on_failure=self._end,
        )

    def __str__(self) -> str:
        return str(self.history)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: everything measured and found, but no model."""
        self._recording.read()
        without = dict.fromkeys(
            ("_model", "params", "_is_due", "_is_chosen", "_function", "_watched", "_names")
        )
        without |= dict.fromkeys(("_capture", "_description"))
        empty = {"_switch": Switch(), "_steps": StepCounter(), "_logged_loss": LoggedLoss()}
        return {**self.__dict__, **without, **empty}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.every = self._every
        self._is_chosen = arguments.choice(self.layers)

    @property
    def every(self) -> int | Callable[[int], bool] | None:
        """The steps to record, as the argument of this name; may be set at any time."""
        return self._every

    @every.setter
    def every(self, every: int | Callable[[int], bool] | None) -> None:
        self._is_due, self._every = arguments.schedule(every), every

    @property
    def history(self) -> History:
        """The records so far, as a `keras_winit.monitor.History`."""
        self._recording.read()
        return self._recording.history

    @property
    def findings(self) -> Findings:
        """The findings so far, one for each cause; the worst first."""
        self._recording.read()
        return self._recording.findings

    def _repr_html_(self) -> str:
        return self.history._repr_html_()

    def reset(self) -> None:
        """Forget everything measured and found."""
        self._recording = self._new_recording(FindingReporter(self.verbose, self.on_finding))
        if self._capture is not None:
            self._recording.history.unseen = self._capture.unseen
        self._steps = StepCounter(self._watched)

    def plot(self, path: str | PathLike[str] | None = None, kind: str = "layers") -> Any:
        """Draw the records, as the function of `keras_winit.plots` that `kind` names.

        Args:
            path: File to save the picture to; its ending chooses the format. Defaults to None:
                the picture is not saved.
            kind: "layers", "health", "strips" (needs "histogram"), "profile" or "updates".
                Defaults to "layers".

        Returns:
            The matplotlib figure.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            OSError: If `path` cannot be written.
            ValueError: If `kind` is unknown, or if what it shows was not measured.
        """
        if kind not in KINDS:
            raise ValueError(
                f"`ActivationMonitor.plot(kind=...)` must be one of {', '.join(KINDS)}. "
                f"Received: kind={kind!r}."
            )
        return getattr(plots, kind)(self.history.records, path, self.findings)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        # `self.model` would, on JAX, gather and scatter the whole state.
        model = model if isinstance(model, keras.Model) else getattr(model, "module", None)
        if model is not self._watched:
            self._recording.read()
            if self._watched is not None and self._recording.history.records:
                _warn(
                    "`ActivationMonitor` starts anew with another model; what it measured of "
                    f"{self._watched.name!r} is no longer in its `history`"
                )
                self.reset()
                self.close()
            self._watched, self._function = model, None
            self._forget_capture()
            self._steps = StepCounter(model)
            self._first_seen = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._switch.disarm(self._watched)
        self._recording.read()
        self._recording.resume()
        function = getattr(self._watched, "train_function", None)
        if self._ended or function is None or function is not self._function:
            # The model was compiled anew, maybe with other layers; or an earlier error is gone.
            self._ended, self._function = False, function
            self._forget_capture()
        self._fit_began, self._batch, self._is_doubled = True, None, False
        self._logged_loss.begin()
        # The layers are described here, because JAX holds no values of variables in an epoch.
        self._description = ModelDescription(self._watched, self._names)
        if self.rules and self._watched.built:
            self._description.read()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_began = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._batch == batch:
            self._note_doubled()
            return
        self._batch = batch
        try:
            if self._epoch_began:
                records = self.history.records
                least = records[-1].step + 1 if records else 0
                self._steps.correct(self._fit_began, least)
                self._fit_began = self._epoch_began = False
            self._block = self._steps.take()
            self._is_recorded = not self._ended and any(map(self._is_due, self._block))
            if self._is_recorded:
                self._arm(self._block)
            elif self._looks_at_loss() and KeptBatches.possible:
                self._switch.keep_batches(self._watched, self._logged_loss.batches)
        except Exception as error:
            self._end(one_line(error))

    def _note_doubled(self) -> None:
        if not self._is_doubled:
            self._is_doubled = True
            _warn("`ActivationMonitor` is twice in `callbacks` and counts each step once")

    def _looks_at_loss(self) -> bool:
        """Return whether a loss that is not finite is to be reported at steps without a record."""
        return not self._ended and self._capture is not None and bool(self.rules)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._batch is None:
            return
        self._batch = None
        if self._is_recorded and self._switch.is_waiting(self._watched):
            self._switch.disarm(self._watched)
            self._end(OWN_LOOP)
        loss = self._logged_loss.first_non_finite(logs)
        if loss is not None and not self._is_recorded and self._looks_at_loss():
            try:
                batches = self._logged_loss.batches.take()
                self._recording.add_non_finite_loss(self._block[-1], loss, batches)
            except Exception as error:
                self._end(one_line(error))
        if self._recording.is_due(bool(self.writers) or self.on_finding != "warn"):
            self._recording.settle(self._watched)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._recording.settle(self._watched)
        # A finding that persists has changed only its last step, which is written once an epoch.
        self._recording.write_findings()
        self._recording.write(lambda writer: writer.flush())
        if self.verbose not in (0, "auto") and is_chief():
            print_safely(str(self), sys.stdout)

    def on_train_end(self, logs: Any = None) -> None:
        self._logged_loss.batches.clear()
        self._switch.disarm(self._watched)
        try:
            self._steps.correct()
        except Exception as error:
            self._end(one_line(error))
        # A writer need not have `end`.
        self._recording.write(lambda writer: getattr(writer, "end", writer.flush)())

    def close(self) -> None:
        """Close the writers; the next record opens them again."""
        self._recording.write(lambda writer: writer.close())

    def _arm(self, block: range) -> None:
        capture = self._capture or self._new_capture()

        def receive(packed: Any, batches: int) -> None:
            if capture is not self._capture:
                return  # An interrupt left this call over from an earlier model.
            if packed is None:
                self._end(capture.broken)
                return
            try:
                step = self._steps.last(block, batches)
                self._recording.add(step, capture.layouts, packed)
            except Exception as error:
                self._end(one_line(error))

        self._switch.arm(self._watched, capture, receive)

    def _forget_capture(self) -> None:
        self._capture, self._switch = None, Switch()
        self._names = Names(self._watched, ends_in_mark)

    def _new_capture(self) -> Capture:
        kind = type(self._watched)
        if not kind.make_train_function.__module__.startswith("keras."):
            raise TypeError(f"{kind.__name__} makes its own train function")
        self._capture = Capture(self.plan, self._is_wanted, self._names)
        self._capture.on_failure = lambda: self._recording.settle(self._watched)
        self._recording.history.unseen = self._capture.unseen
        return self._capture

    def _is_wanted(self, layer: Any) -> bool:
        return layer is not self._watched and self._is_chosen(layer, self._names.of)

    def _note_once(self, record: Record) -> None:
        """Note, at the first record of a model, which layers cannot be watched."""
        if self._capture is not None:
            self._capture.forget_empty((*record.inputs, *record.layers, *record.targets))
        if self._first_seen or self._capture is None:
            return
        self._first_seen = True
        # A predicate of the user's may fail on the cells.
        with suppress(Exception):
            note_layers_in_loops(self._watched, self._capture)
        if (
            self.layers
            and self.plan.measures_layers
            and not (record.layers or self._capture.unseen)
        ):
            self._warn_of_no_layers()

    def _warn_of_no_layers(self) -> None:
        layers = self._watched._flatten_layers(include_self=False)
        names = [
            self._names.of(layer) for layer in layers if not isinstance(layer, arguments.UNWATCHED)
        ]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        _warn(
            "`ActivationMonitor(layers=...)` fits no layer that ran. Received: "
            f"layers={self.layers!r}. The model has {', '.join(names[:8])}{more}."
        )

    def _model_facts(self) -> ModelFacts:
        facts: ModelFacts = self._description.facts(self._capture)
        return facts

    def _end(self, reason: str | None) -> None:
        self._ended = True
        _warn(f"`ActivationMonitor` watches no more, training goes on. Received: {reason}")


def _is_writer(candidate: Any) -> bool:
    return not isinstance(candidate, type) and callable(getattr(candidate, "write", None))


def _warn(message: str) -> None:
    warn(message, stacklevel=3)
