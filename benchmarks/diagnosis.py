"""How often the monitor finds planted faults, and how often it cries wolf.

    KERAS_BACKEND=torch python benchmarks/diagnosis.py [--seeds 100 110] [--only NAME] [--jobs 2]

Trains each model for 31 steps from each seed, with a monitor at its defaults. A fault counts
as found if a warning or an error names one of the layers it was planted in, and as named
rightly if it is by a rule that was noted beforehand; a healthy model as an alarm if there is
any warning or error. Of the sensitivity table nothing counts: it shows how far off something
must be.

Rules and models were settled on seeds 0 to 14 and 100 to 109. Then one run of seeds 200 to 209,
on PyTorch and a processor, of 114 faults and 57 healthy models in MLPs, CNNs, LSTMs, residual and
attention models, 21 minutes of one core:

    found at the right layer within 30 steps    1140 of 1140
    found there by an expected rule             1140 of 1140
    false alarms                                   1 of  570, dead units among rare classes

    planted             first finding, of ten seeds each
    zeros               symmetric_units 80
    constant            constant_units 100
    small               wrong_init_for_activation 100, vanishing_forward 10
    large               wrong_init_for_activation 100
    negative, dead      dead_units 80
    recurrent           wrong_init_for_activation 30
    saturated           saturated 60
    inputs              input_scale 80
    vanishing signal    vanishing_forward 60
    exploding signal    exploding_forward 40
    vanishing gradient  vanishing_backward 50
    exploding gradient  exploding_backward 30
    frozen              update_frozen 40, vanishing_backward 20
    first loss          wrong_init_for_activation 40, bad_initial_loss 10
    rate                update_too_large 100
    not finite          non_finite 80
    float16             exploding_forward 20, wrong_init_for_activation 10

Where it ends: one layer's stddev off by 3 is not found, by 10 it is; of all five layers 3 times
too much is found, a third of it 8 times in ten. Adam at 0.1 is found at once, at 0.03 by the
units it has killed, at 0.01 not. Biases of tanh are found from 3 on, inputs from 10 times on.
The faults are clear-cut by choice: the figures are no promise for what is nearly right.
"""

import argparse
import collections
import concurrent.futures
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import dataclass

# Before a backend is loaded: each process has one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import faults
import healthy
import keras
import numpy as np
from nets import BATCH, STEPS, data
from plans import PLANS

import keras_winit

RULES = [rule.id for rule in keras_winit.monitor.RULES]
APART = ("healthy", "sensitivity")

for plant in (faults.plan, healthy.plan, faults.sensitivity):
    plant()


@dataclass(frozen=True)
class Outcome:
    """Of one seed: whether the right layer was named, and by the right rule; when; by what."""

    found: bool
    named: bool
    step: int
    rules: tuple


def outcomes(number, seeds):
    """Of each seed; one model serves all, so that it is compiled once."""
    plan = PLANS[number]
    keras.config.set_dtype_policy(plan.policy)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seeds[0])
    told = []
    model = plan.build()
    monitor = keras_winit.ActivationMonitor(verbose=0, on_finding=told.append)
    model.compile(plan.optimizer(), plan.loss)
    found = []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model.set_weights(plan.build().get_weights())
        x, y = data(plan.data, seed)
        x, y = plan.spoil(x, y) if plan.spoil else (x, y)
        if plan.trained:
            tune(model, x, y)
        renew(model.optimizer)
        told.clear()
        monitor.reset()
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[monitor])
        found.append(outcome(plan, monitor.findings, told))
    return found


def tune(model, x, y):
    """Train it first, with a rate of its own."""
    rate = float(model.optimizer.learning_rate)
    model.optimizer.learning_rate = 3e-3 if "adam" in model.optimizer.name else 0.05
    model.fit(x, y, batch_size=BATCH, epochs=4, verbose=0)
    model.optimizer.learning_rate = rate


def renew(optimizer):
    """As it was before its first step."""
    for variable in optimizer.variables:
        if "learning_rate" not in variable.path:
            start = 2.0**15 if "dynamic_scale" in variable.path else 0
            variable.assign(np.full(variable.shape, start))


def outcome(plan, findings, told):
    def right(finding):
        return not plan.layers or {finding.layer, *finding.layer.split("/")} & set(plan.layers)

    bad = [finding for finding in findings if finding.severity != "info"]
    hits = [finding for finding in bad if right(finding)]
    steps = [one.step for one in told if one.severity != "info" and right(one)]
    named = any(finding.rule in plan.rules for finding in hits)
    return Outcome(bool(hits), named, min(steps, default=-1), tuple(f.rule for f in bad))


def report(plan, results):
    """A row."""
    count = len(results)
    rules = collections.Counter(rule for result in results for rule in result.rules)
    shown = ", ".join(f"{rule} {n}" for rule, n in rules.most_common())
    steps = [result.step for result in results if result.found]
    when = f"{statistics.median(steps):g} .. {max(steps)}" if steps else "-"
    found = f"{sum(result.found for result in results)}/{count}"
    named = f"{sum(result.named for result in results)}/{count}" if plan.rules else "-"
    print(f"{plan.kind:18}  {plan.name:36}  {found:>5}  {named:>5}  {when:>8}  {shown}", flush=True)


def confusion(results):
    """Planted kinds by the rule of the worst finding; the last column has none."""
    print("\nplanted, by the rule of the first finding:")
    for number, rule in enumerate(RULES, 1):
        print(f"{number:4d} {rule}")
    counts = collections.defaultdict(collections.Counter)
    for plan, outcomes in results:
        counts[plan.kind].update((one.rules or ("",))[0] for one in outcomes)
    print(f"\n{'':18}" + "".join(f"{n:5d}" for n in range(1, len(RULES) + 1)) + " none")
    for kind, row in counts.items():
        print(f"{kind:18}" + "".join(f"{row[rule] or '.':>5}" for rule in (*RULES, "")))


def totals(results):
    ills = [one for plan, found in results if plan.kind not in APART for one in found]
    well = [one for plan, found in results if plan.kind == "healthy" for one in found]
    early = sum(one.found and one.step <= 30 for one in ills)
    print()
    for count, among, what in (
        (early, ills, "faults found at the right layer within 30 steps"),
        (sum(one.named for one in ills), ills, "faults found there by an expected rule"),
        (sum(bool(one.rules) for one in well), well, "healthy runs with an alarm"),
    ):
        if among:
            print(f"{count:5d} of {len(among):5d}  {count / len(among):6.1%}  {what}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs=2, type=int, default=(100, 110), metavar=("FROM", "TO"))
    parser.add_argument("--kind", default="", help="kinds that contain this")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    began, seeds = time.monotonic(), range(*options.seeds)
    chosen = [
        number
        for number, plan in enumerate(PLANS)
        if options.only in plan.name and options.kind in plan.kind
    ]
    print(
        f"{len(chosen)} models on {keras.backend.backend()}, seeds {seeds.start} to "
        f"{seeds.stop - 1}, {STEPS} steps of {BATCH}\n\n"
        f"{'planted':18}  {'':36}  found  named     step  rules",
        flush=True,
    )
    results = []
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        for number, found in zip(
            chosen, pool.map(outcomes, chosen, [seeds] * len(chosen)), strict=True
        ):
            report(PLANS[number], found)
            results.append((PLANS[number], found))
    confusion(results)
    totals(results)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
