"""Trains the foreign programs with a monitor and judges what it names first."""

import collections
import re
import statistics
import time
import traceback
import warnings
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

import keras_winit
from diagnosis_cases import (
    foreign_fine_tuning,
    foreign_generative,
    foreign_images,
    foreign_regression,
    foreign_sequences,
    foreign_tables,
    foreign_transformers,
    foreign_wrong_models,
    foreign_wrong_numbers,
    foreign_wrong_outputs,
    foreign_wrong_targets,
    foreign_wrong_values,
)
from keras_winit.monitor import check

HEALTHY = [
    *foreign_images.CASES,
    *foreign_fine_tuning.CASES,
    *foreign_generative.CASES,
    *foreign_regression.CASES,
    *foreign_tables.CASES,
    *foreign_sequences.CASES,
    *foreign_transformers.CASES,
]
FAULTY = [
    *foreign_wrong_outputs.CASES,
    *foreign_wrong_targets.CASES,
    *foreign_wrong_numbers.CASES,
    *foreign_wrong_values.CASES,
    *foreign_wrong_models.CASES,
]
FOREIGN = [*HEALTHY, *FAULTY]


@dataclass(frozen=True)
class Verdict:
    """Warnings and errors of one run, in short.

    Args:
        alarms: Severity and rule of each, the worst first.
        right_first: Whether the first of them names the cause.
        right_any: Whether one of them does.
    """

    alarms: tuple = ()
    right_first: bool = False
    right_any: bool = False

    def has(self, severity):
        return any(alarm[0] == severity for alarm in self.alarms)


@dataclass(frozen=True)
class ForeignOutcome:
    """One case from one seed.

    Args:
        fit: Verdict on the findings of the run.
        check: Verdict on those of `check`, before training. None: not tried.
        start: Loss of the first three steps.
        end: Loss of the last epoch.
        crash: Last line of the exception that ended the run, if any.
        seconds: CPU time of the process.
    """

    fit: Verdict = Verdict()
    check: Verdict | None = None
    start: float = float("nan")
    end: float = float("nan")
    crash: str = ""
    seconds: float = 0.0

    def is_trained(self, case):
        return bool(self.end <= case.falls_to * self.start)


class LossLog(keras.callbacks.Callback):
    """Keeps the mean loss of the first three steps and of the last epoch."""

    def on_train_begin(self, logs=None):
        self.step, self.start, self.end = 0, float("nan"), float("nan")

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step == 3:
            self.start = float(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        self.end = float(logs["loss"])


def foreign_outcomes(number, seeds, checks):
    """Return the outcome of one case for each seed; the first `checks` of them try `check`.

    A single model serves all seeds, so that it is compiled only once.
    """
    case = FOREIGN[number]
    warnings.simplefilter("ignore")
    keras.config.set_dtype_policy(case.policy)
    keras.utils.clear_session()
    try:
        trainer = Trainer(case, seeds[0])
        return [trainer.outcome(seed, i < checks) for i, seed in enumerate(seeds)]
    except Exception as error:
        traceback.print_exc()
        crash = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
        return [ForeignOutcome(crash=crash)] * len(seeds)


class Trainer:
    """The model of a case, with all that is needed to start it anew."""

    def __init__(self, case, seed):
        self.case = case
        keras.utils.set_random_seed(seed)
        self.model = case.build()
        self.monitor = keras_winit.ActivationMonitor(verbose=0)
        self.optimizer_start = None

    def outcome(self, seed, with_check):
        case, model, log, clock = self.case, self.model, LossLog(), time.process_time()
        x, y = case.data(np.random.default_rng(seed), case.rows)
        checked = None
        if with_check:
            self.restart(seed, x)
            first = keras.tree.map_structure(lambda array: array[: case.batch], (x, y))
            checked = verdict(case, check(model, *first))
        self.restart(seed, x)
        self.monitor.reset()
        callbacks = [self.monitor, log, *case.callbacks()]
        options = {"batch_size": case.batch, "epochs": case.epochs, "verbose": 0, **case.fit}
        model.fit(x, y, callbacks=callbacks, **options)
        judged = verdict(case, self.monitor.findings)
        seconds = time.process_time() - clock
        return ForeignOutcome(judged, checked, log.start, log.end, seconds=seconds)

    def restart(self, seed, x):
        """Set all variables to those of a new model from the seed."""
        keras.utils.set_random_seed(seed)
        new = self.case.build()
        for model in (self.model, new):
            if not model.built or not model.weights:
                model(keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[:2]), x))
        for variable, start in zip(self.model.variables, new.variables, strict=True):
            variable.assign(ops.convert_to_numpy(start))
        optimizer = self.model.optimizer
        if self.optimizer_start is None:
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            self.optimizer_start = [np.array(ops.convert_to_numpy(v)) for v in optimizer.variables]
        for variable, start in zip(optimizer.variables, self.optimizer_start, strict=True):
            variable.assign(start)


def verdict(case, findings):
    """Compare the warnings and errors with the causes that the case expects."""
    alarms = [finding for finding in findings if finding.severity != "info"]
    right = [is_right(case, finding) for finding in alarms]
    shown = tuple((finding.severity, finding.rule) for finding in alarms)
    return Verdict(shown, bool(right) and right[0], any(right))


def is_right(case, finding):
    text = " ".join([finding.layer, finding.cause, finding.remedy, *finding.details])
    mentioned = not case.mentions or re.search(case.mentions, text, re.IGNORECASE)
    return bool(finding.rule in case.rules and mentioned)


def print_foreign_row(case, results):
    """Print how often a case was judged rightly, its losses, and which rules came first."""
    crash = next((result.crash for result in results if result.crash), "")
    losses = [
        statistics.median(getattr(result, key) for result in results) for key in ("start", "end")
    ]
    loss = " -> ".join(f"{value:.3g}" for value in losses)
    seconds = statistics.mean(result.seconds for result in results)
    checked = [result.check for result in results if result.check]
    if case.rules:
        counts = [sum(result.fit.right_first for result in results)]
        counts.append(sum(result.fit.right_any for result in results))
        counts.append(sum(one.right_any for one in checked))
        named = [(result.fit.alarms or (("", "none"),))[0][1] for result in results]
        named = [rule if rule in case.rules else f"not {rule}" for rule in named]
    else:
        counts = [sum(not result.is_trained(case) for result in results)]
        counts.append(sum(result.fit.has("error") for result in results))
        counts.append(sum(result.fit.has("warning") for result in results))
        named = [" ".join(alarm) for result in results for alarm in sorted(set(result.fit.alarms))]
    rules = ", ".join(f"{rule} {n}" for rule, n in collections.Counter(named).most_common())
    shown = "  ".join(f"{count or '.':>5}" for count in counts)
    print(
        f"{case.kind:20}  {case.name:68}  {shown}  {loss:>20}  {seconds:5.1f}  {crash or rules}",
        flush=True,
    )


def print_foreign_heading(healthy):
    columns = "flat error warn" if healthy else "first any check"
    a, b, c = columns.split()
    title = "healthy program" if healthy else "faulty program"
    print(f"\n{title:90}  {a:>5}  {b:>5}  {c:>5}  {'loss':>20}  CPU s  findings")


def foreign_totals(results):
    """Return how many runs there are of each kind, and of how many, by what they are.

    These are false alarms, and right causes for each kind of fault and in all.
    """
    healthy = [(case, one) for case, outcomes in results if not case.rules for one in outcomes]
    faulty = [(case, one) for case, outcomes in results if case.rules for one in outcomes]
    trained = [one for case, one in healthy if one.is_trained(case)]
    checked = [one.check for _, one in healthy if one.check]
    totals = {
        "healthy runs that did not train": (len(healthy) - len(trained), len(healthy)),
        "false errors": (sum(one.fit.has("error") for one in trained), len(trained)),
        "false warnings": (sum(one.fit.has("warning") for one in trained), len(trained)),
        "false alarms of `check` on healthy programs": (
            sum(bool(one.alarms) for one in checked),
            len(checked),
        ),
    }
    kinds = collections.defaultdict(list)
    for case, one in faulty:
        kinds[case.kind].append(one.fit.right_first)
    for kind, hits in kinds.items():
        totals[f"right first cause, {kind}"] = sum(hits), len(hits)
    checked = [one.check for _, one in faulty if one.check]
    for key, text in (("right_first", "right first cause"), ("right_any", "any right finding")):
        totals[text] = sum(getattr(one.fit, key) for _, one in faulty), len(faulty)
        hits = sum(getattr(one, key) for one in checked)
        totals[f"{text}, by `check` before training"] = hits, len(checked)
    crashes = sum(bool(one.crash) for _, one in healthy + faulty)
    totals["runs that ended in an exception"] = crashes, len(healthy) + len(faulty)
    return {text: counts for text, counts in totals.items() if counts[1]}
