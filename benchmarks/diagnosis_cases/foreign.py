"""A foreign case: a program in the style in which people publish them, healthy or faulty."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True)
class ForeignCase:
    """A program to train, with the causes that may be named first.

    Args:
        kind: Kind of model if it is healthy, else kind of fault.
        name: Description of the program.
        build: Function that returns the compiled model.
        data: Function of a generator and a number of rows that returns inputs and targets.
        rules: Ids of the rules that name the cause. Empty: the program is healthy.
        mentions: Regular expression that the text of a right finding contains.
        batch: Size of a batch.
        steps: Number of steps.
        epochs: Number of epochs into which the steps are divided.
        extra_rows: Rows more than the steps need, which make a last small batch of each epoch.
        policy: Dtype policy of the model.
        fit: Further arguments of `fit`.
        callbacks: Function that returns the callbacks of a run.
        falls_to: Share of the loss at the first steps that a healthy model gets below.
    """

    kind: str
    name: str
    build: Callable
    data: Callable
    rules: frozenset = frozenset()
    mentions: str = ""
    batch: int = 32
    steps: int = 104
    epochs: int = 4
    extra_rows: int = 0
    policy: str = "float32"
    fit: dict = field(default_factory=dict)
    callbacks: Callable = list
    falls_to: float = 0.8

    @property
    def rows(self):
        return self.batch * self.steps // self.epochs + self.extra_rows


def healthy_into(cases):
    """Return a decorator that adds a healthy program to a list.

    It takes the kind, the name, the data and the further fields of `ForeignCase`.
    """

    def healthy(kind, name, data, **options):
        return partial(_add, cases, kind, name, data, options)

    return healthy


def faulty_into(cases):
    """Return a decorator that adds a faulty program to a list.

    It takes the kind, the name, the ids of the right rules in one string, the data and the
    further fields of `ForeignCase`. Most faults are there at the first step, so that 32 steps
    suffice.
    """

    def faulty(kind, name, rules, data, **options):
        options = {"rules": frozenset(rules.split()), "steps": 32, "epochs": 2, **options}
        return partial(_add, cases, kind, name, data, options)

    return faulty


def _add(cases, kind, name, data, options, build):
    cases.append(ForeignCase(kind, name, build, data, **options))
    return build


def compiled(model, optimizer, loss, **options):
    """Compile a model and return it."""
    model.compile(optimizer, loss, **options)
    return model


# Options of faults that need a run of 110 steps to show.
LONG = {"steps": 112, "epochs": 4}
