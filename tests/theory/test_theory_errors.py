"""Errors of gains, mean-field theory and fans: each sentence in full."""

import re

import numpy as np
import pytest

import keras_winit as kw
from keras_winit.theory import Use, fans, mean_field
from keras_winit.theory.fans import kernel_axes

AXES = (
    "`input_axes` and `output_axes` must name different axes of the kernel, each from -2 to 1 "
    "for shape=(3, 4). Received: input_axes={}, output_axes={}."
)

ITERATOR = iter((3, 4))


def not_for_arrays(x):
    raise RuntimeError("one number at a time")


def without_second_moment(x):
    return np.exp(x * x / 3)


ERRORS = [
    (lambda: fans((3, 4), [0, 0]), ValueError, AXES.format("[0, 0]", "None")),
    *(
        (
            lambda axes=axes: fans((3, 4), axes),
            TypeError,
            "`input_axes` and `output_axes` must be lists of integers, or None. "
            f"Received: input_axes={axes!r}, output_axes=None.",
        )
        for axes in (1, "ab", [1.0], [None], {})
    ),
    (
        lambda: fans(ITERATOR),
        TypeError,
        f"`fans(shape=...)` must be integers >= 0 and below 2**63. Received: shape={ITERATOR!r}.",
    ),
    (
        lambda: fans((2**62,) * 20, strides=7),
        ValueError,
        f"the fans of a kernel must be finite numbers. Received: shape={(2**62,) * 20}, strides=7.",
    ),
    (
        lambda: kernel_axes((3,), Use(kind="depthwise")),
        ValueError,
        "A depthwise kernel must have at least two axes. Received: shape=(3,).",
    ),
    (
        lambda: kw.gain("gleu"),
        ValueError,
        "`gain(activation=...)` must be the name of a Keras activation, or a function. "
        "Received: activation='gleu'. Did you mean 'gelu'?",
    ),
    (
        lambda: kw.gain(3),
        TypeError,
        "`gain(activation=...)` must be a name or a function of arrays. Received: activation=3.",
    ),
    *(
        (
            lambda name=name: kw.gain(name),
            ValueError,
            "`gain(activation=...)` must act on each entry by itself. "
            f"Received: activation={name!r}.",
        )
        for name in ("softmax", "log_softmax", "sparsemax", "glu", np.cumsum, np.sum)
    ),
    (
        lambda: kw.gain("relu", slope=0.1),
        ValueError,
        "`gain` with 'relu' takes `negative_slope` and `max_value` and `threshold`. "
        "Received: slope=0.1.",
    ),
    (
        lambda: kw.gain("threshold"),
        ValueError,
        "`gain` with 'threshold' takes `threshold` and `default_value`. Received: none.",
    ),
    (
        lambda: kw.gain("leaky_relu", negative_slope="0.1"),
        ValueError,
        "`gain(negative_slope=...)` must be a finite number. Received: negative_slope='0.1'.",
    ),
    (
        lambda: kw.gain("tanh", "fan_in"),
        ValueError,
        "`gain(mode=...)` must be one of 'second_moment', 'centered', 'backward', 'odd', 'torch'. "
        "Received: mode='fan_in'.",
    ),
    (
        lambda: kw.gain("tanh", np.array(["torch", "odd"])),
        ValueError,
        "`gain(mode=...)` must be one of 'second_moment', 'centered', 'backward', 'odd', 'torch'. "
        "Received: mode=array(['torch', 'odd'], dtype='<U5').",
    ),
    (
        lambda: kw.gain("leaky_relu", "torch", negative_slope=True),
        ValueError,
        "`gain(negative_slope=...)` must be a finite number. Received: negative_slope=True.",
    ),
    (
        lambda: kw.gain("leaky_relu", negative_slope=False),
        ValueError,
        "`gain(negative_slope=...)` must be a finite number. Received: negative_slope=False.",
    ),
    (
        lambda: kw.gain("leaky_relu", "torch", negative_slope=None),
        ValueError,
        "`gain(negative_slope=...)` must be a finite number. Received: negative_slope=None.",
    ),
    (
        lambda: kw.gain("leaky_relu", "torch", slope=0.1),
        ValueError,
        "`gain` with 'leaky_relu' takes `negative_slope`. Received: slope=0.1.",
    ),
    (
        lambda: kw.gain("gelu", "torch"),
        ValueError,
        "`gain(mode='torch')` knows conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, "
        "conv_transpose3d, leaky_relu, linear, relu, selu, sigmoid, tanh. "
        "Received: activation='gelu'. Use another mode for it.",
    ),
    *(
        (
            lambda function=function: kw.gain(function),
            ValueError,
            "`gain(activation=...)` must have a finite second moment over N(0, 1), above "
            f"zero. Received: activation={function!r}.",
        )
        for function in (np.zeros_like, np.log, np.reciprocal, without_second_moment)
    ),
    (
        lambda: kw.gain(np.ones_like, "centered"),
        ValueError,
        "`gain(activation=...)` must not be constant for mode='centered'. "
        f"Received: activation={np.ones_like!r}.",
    ),
    (
        lambda: kw.gain(np.sign, "backward"),
        ValueError,
        "`gain(activation=...)` must have a slope for mode='backward'. "
        f"Received: activation={np.sign!r}.",
    ),
    (
        lambda: kw.gain(not_for_arrays),
        ValueError,
        "`gain(activation=...)` must take a float64 array and return an array. Received: "
        f"activation={not_for_arrays!r}, which raised RuntimeError: one number at a time",
    ),
    (
        lambda: kw.critical_point("tanh"),
        ValueError,
        "`critical_point` takes one of `bias_stddev` and `q`. Received: bias_stddev=None, q=None.",
    ),
    (
        lambda: kw.critical_point("tanh", 0.1, 1.0),
        ValueError,
        "`critical_point` takes one of `bias_stddev` and `q`. Received: bias_stddev=0.1, q=1.0.",
    ),
    (
        lambda: kw.critical_point("tanh", -0.1),
        ValueError,
        "`critical_point(bias_stddev=...)` must be a number >= 0. Received: bias_stddev=-0.1.",
    ),
    (
        lambda: kw.critical_point("tanh", 1e308),
        ValueError,
        "`critical_point(bias_stddev=...)` must be a number whose square is finite. "
        "Received: bias_stddev=1e+308.",
    ),
    (
        lambda: kw.critical_point("tanh", 10**320),
        ValueError,
        "`critical_point(bias_stddev=...)` must be a number >= 0. "
        f"Received: bias_stddev={10**320}.",
    ),
    (
        lambda: kw.critical_point("tanh", q="1"),
        TypeError,
        "`critical_point(q=...)` must be a number > 0. Received: q='1'.",
    ),
    *(
        (
            lambda name=name: kw.critical_point(name, 0.1),
            ValueError,
            "`critical_point(activation=...)` must have a critical point; its variance of "
            "biases would be negative at every q from 1e-06 to 30. "
            f"Received: activation={name!r}.",
        )
        for name in ("sigmoid", "softplus")
    ),
    (
        lambda: kw.critical_point("sigmoid", q=1),
        ValueError,
        "`critical_point(q=...)` must leave a variance of biases >= 0 for sigmoid. "
        "Received: q=1, for which it is -5.543.",
    ),
    (
        lambda: kw.critical_point("relu", 0.1),
        ValueError,
        "`critical_point(bias_stddev=...)` must be at most 0 for relu, with q up to 30. "
        "Received: bias_stddev=0.1.",
    ),
    (
        lambda: kw.critical_point("hard_shrink", 0.1),
        ValueError,
        "`critical_point(activation=...)` must be continuous, as chi_1 is infinite at a jump. "
        "Received: activation='hard_shrink'.",
    ),
    (
        lambda: mean_field.predict("tanh", -1.0),
        ValueError,
        "`predict(sigma_w=...)` must be a number >= 0. Received: sigma_w=-1.0.",
    ),
    (
        lambda: mean_field.predict("tanh", 1.0, depth=0),
        ValueError,
        "`predict(depth=...)` must be an integer >= 1. Received: depth=0.",
    ),
    (
        lambda: mean_field.correlation_map("tanh", 1.5, 1.0, 1.0),
        ValueError,
        "`correlation_map(c=...)` must be a number in [-1, 1]. Received: c=1.5.",
    ),
    (
        lambda: mean_field.chi_q("tanh", 0, 1.0),
        ValueError,
        "`chi_q(q=...)` must be a number > 0. Received: q=0.",
    ),
    (
        lambda: mean_field.fixed_point("relu", 3.0),
        ValueError,
        "`fixed_point(sigma_w=..., sigma_b=...)` must let the variance settle. Received: "
        "sigma_w=3.0, sigma_b=0.0, for which the variance grows beyond 90000.",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), ERRORS, ids=lambda v: str(v)[:50])
def test_error(call, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call()
