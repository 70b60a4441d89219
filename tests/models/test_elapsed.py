"""The time of a long call is printed; a short call prints nothing."""

import re
import time

import keras
import numpy as np
import pytest

import keras_winit
from keras_winit.models import elapsed as module
from keras_winit.models.elapsed import elapsed

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def short_second(monkeypatch):
    monkeypatch.setattr(module, "FIRST_LINE", 0.05)


def test_a_short_call_prints_nothing(capsys):
    with elapsed("lsuv", "auto"):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("short_second")
def test_lines_come_at_doubled_times_and_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr(module, "FIRST_LINE", 0.2)
    with elapsed("lsuv", "auto", lambda: "at layer 'a' (1 of 3) "):
        time.sleep(1.2)
    out, err = capsys.readouterr()
    *lines, last = err.splitlines()
    assert out == ""
    # After 0.2, 0.4 and 0.8 seconds; a busy machine may sleep longer.
    assert len(lines) in (3, 4)
    assert {line.partition(" after")[0] for line in lines} == {"lsuv: at layer 'a' (1 of 3)"}
    assert re.fullmatch(r"lsuv: ended after \d+\.\d s", last)


@pytest.mark.usefixtures("short_second")
def test_nothing_is_printed_with_verbose_0(capsys):
    with elapsed("lsuv", 0):
        time.sleep(0.2)
    assert capsys.readouterr() == ("", "")


def interrupted_after(seconds):
    with elapsed("lsuv", 1):
        time.sleep(seconds)
        raise KeyboardInterrupt


@pytest.mark.usefixtures("short_second")
def test_an_error_ends_the_lines_and_is_raised(capsys):
    with pytest.raises(KeyboardInterrupt):
        interrupted_after(0.2)
    printed = capsys.readouterr().err
    time.sleep(0.3)
    assert printed.endswith(" s\n")
    assert capsys.readouterr().err == ""


class Slow(keras.layers.Layer):
    def call(self, x):
        time.sleep(0.15)
        return x


def slow_model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="dense"), Slow()])


CALLS = {
    "lsuv": lambda model, x, **options: keras_winit.lsuv(model, x, **options),
    "signal_report": lambda model, x, **options: keras_winit.signal_report(model, x, **options),
}


@pytest.mark.usefixtures("short_second")
@pytest.mark.parametrize("name", CALLS)
def test_a_slow_model_is_timed_unless_told_otherwise(name, capsys):
    model, x = slow_model(), np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    CALLS[name](model, x, verbose=0)
    assert capsys.readouterr().err == ""
    CALLS[name](model, x)
    first, *_, last = capsys.readouterr().err.splitlines()
    place = {"lsuv": "at layer 'dense' (1 of 1) ", "signal_report": ""}[name]
    assert re.fullmatch(re.escape(f"{name}: {place}") + r"after \d+ s", first)
    assert last.startswith(f"{name}: ended after ")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("verbose", [3, "loud", None, np.zeros(2)])
def test_an_unknown_verbosity_is_refused(name, verbose):
    with pytest.raises(ValueError, match="must be 'auto'") as caught:
        CALLS[name](slow_model(), np.ones((2, 3)), verbose=verbose)
    assert str(caught.value) == (
        f"`{name}(verbose=...)` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}."
    )
