"""Every mistake gets a sentence that names the argument, the value and the remedy."""

import re

import numpy as np
import pytest

import keras_winit as kw
from keras_winit import experiments, plots
from keras_winit.theory import fans, mean_field

CHOICES = "'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg'"
DTYPE = (
    "`HeNormal` makes weights of dtype bfloat16, float16, float32 or float64. "
    "Received: dtype={}. Make them in one of these and cast or quantize them afterwards."
)
AXES = (
    "`input_axes` and `output_axes` must name different axes of the kernel, each from -2 to 1 "
    "for shape=(3, 4). Received: input_axes={}, output_axes={}."
)
SEED = (
    "`HeNormal(seed=...)` must be an integer, a `keras.random.SeedGenerator` or None. "
    "Received: seed={}."
)
BOUNDS = (
    "`TruncatedNormal(bounds=...)` must be a number > 0, or two numbers of which the first is "
    "smaller. Received: bounds={}."
)

NARROW = (
    "`TruncatedNormal(bounds=...)` must be wide enough to leave a standard deviation of 1e-6, "
    "also relative to the bounds. Received: bounds={}."
)

PROBABILITY = (
    "`PriorBias(probability=...)` must be a number in (0, 1), or one for each class. "
    "Received: probability={}."
)
FREQUENCIES = (
    "`PriorBias(frequencies=...)` must be numbers > 0, one for each class. "
    "Received: frequencies={}."
)


def scalar(x):
    raise RuntimeError("one at a time")


def explosive(x):
    return np.exp(x * x / 3)


WRONG = [
    (
        lambda: kw.SmallNormal(-1.0),
        ValueError,
        "`SmallNormal(stddev=...)` must be a number >= 0. Received: stddev=-1.0.",
    ),
    (
        lambda: kw.LargeNormal(stddev=float("nan")),
        ValueError,
        "`LargeNormal(stddev=...)` must be a number >= 0. Received: stddev=nan.",
    ),
    (
        lambda: kw.NegativeNormal("0.1"),
        TypeError,
        "`NegativeNormal(stddev=...)` must be a number >= 0. Received: stddev='0.1'.",
    ),
    (
        lambda: kw.TruncatedNormal(-0.1),
        ValueError,
        "`TruncatedNormal(stddev=...)` must be a number >= 0. Received: stddev=-0.1.",
    ),
    (lambda: kw.TruncatedNormal(bounds=(2, -2)), ValueError, BOUNDS.format("(2, -2)")),
    (lambda: kw.TruncatedNormal(bounds=0), ValueError, BOUNDS.format("0")),
    (lambda: kw.TruncatedNormal(bounds=(1, 2, 3)), ValueError, BOUNDS.format("(1, 2, 3)")),
    (lambda: kw.TruncatedNormal(bounds="x"), ValueError, BOUNDS.format("'x'")),
    (lambda: kw.TruncatedNormal(bounds="12"), ValueError, BOUNDS.format("'12'")),
    (lambda: kw.TruncatedNormal(bounds={1: 2, 3: 4}), ValueError, BOUNDS.format("{1: 2, 3: 4}")),
    (lambda: kw.TruncatedNormal(bounds=(1, "2")), ValueError, BOUNDS.format("(1, '2')")),
    (lambda: kw.TruncatedNormal(bounds=float("nan")), ValueError, BOUNDS.format("nan")),
    (lambda: kw.TruncatedNormal(bounds=True), ValueError, BOUNDS.format("True")),
    *(
        (lambda b=bounds: kw.TruncatedNormal(bounds=b), ValueError, NARROW.format(bounds))
        for bounds in (1e-50, (5, 5 + 1e-9), (1e9, float("inf")), (1e200, 2e200), (1e5, 1e5 + 1))
    ),
    (
        lambda: kw.TruncatedNormal(corrected=1),
        TypeError,
        "`TruncatedNormal(corrected=...)` must be True or False. Received: corrected=1.",
    ),
    (
        lambda: kw.SmallUniform(-0.1),
        ValueError,
        "`SmallUniform(limit=...)` must be a number >= 0. Received: limit=-0.1.",
    ),
    (
        lambda: kw.Constant(float("inf")),
        ValueError,
        "`Constant(value=...)` must be a finite number. Received: value=inf.",
    ),
    (
        lambda: kw.Constant(True),
        TypeError,
        "`Constant(value=...)` must be a finite number. Received: value=True.",
    ),
    (
        lambda: kw.LecunNormal(-1),
        ValueError,
        "`LecunNormal(gain=...)` must be a number >= 0. Received: gain=-1.",
    ),
    (
        lambda: kw.HeNormal(negative_slope=None),
        TypeError,
        "`HeNormal(negative_slope=...)` must be a finite number. Received: negative_slope=None.",
    ),
    (
        lambda: kw.HeNormal(mode="fan_avg"),
        ValueError,
        "`HeNormal(mode=...)` must be one of 'fan_in', 'fan_out'. Received: mode='fan_avg'.",
    ),
    (
        lambda: kw.VarianceScaling(scale=-1),
        ValueError,
        "`VarianceScaling(scale=...)` must be a number >= 0. Received: scale=-1.",
    ),
    (
        lambda: kw.VarianceScaling(mode="in"),
        ValueError,
        f"`VarianceScaling(mode=...)` must be one of {CHOICES}. Received: mode='in'.",
    ),
    (
        lambda: kw.VarianceScaling(distribution="untruncated_normal"),
        ValueError,
        "`VarianceScaling(distribution=...)` must be one of 'normal', 'truncated_normal', "
        "'uniform'. Received: distribution='untruncated_normal'.",
    ),
    (
        lambda: kw.Sparse(0),
        ValueError,
        "`Sparse(connections=...)` must be an integer >= 1. Received: connections=0.",
    ),
    (
        lambda: kw.Sparse(2.5),
        TypeError,
        "`Sparse(connections=...)` must be an integer >= 1. Received: connections=2.5.",
    ),
    (
        lambda: kw.Sparse("10"),
        TypeError,
        "`Sparse(connections=...)` must be an integer >= 1. Received: connections='10'.",
    ),
    (
        lambda: kw.Sparse(connections=5, sparsity=0.5),
        ValueError,
        "`Sparse` takes `connections` or `sparsity`, not both. "
        "Received: connections=5, sparsity=0.5.",
    ),
    (
        lambda: kw.Sparse(stddev=0.1, gain=1.0),
        ValueError,
        "`Sparse` takes `stddev` or `gain`, not both. Received: stddev=0.1, gain=1.0.",
    ),
    (
        lambda: kw.Sparse(stddev=0),
        ValueError,
        "`Sparse(stddev=...)` must be a number > 0. Received: stddev=0.",
    ),
    (
        lambda: kw.Sparse(gain=-1),
        ValueError,
        "`Sparse(gain=...)` must be a number > 0. Received: gain=-1.",
    ),
    (
        lambda: kw.Sparse(sparsity=1.0),
        ValueError,
        "`Sparse(sparsity=...)` must be a number in [0, 1). Received: sparsity=1.0.",
    ),
    (
        lambda: kw.Sparse()((5,)),
        ValueError,
        "`Sparse` needs a kernel of at least two axes. Received: shape=(5,). "
        "Use `winit>zeros` or `winit>constant` for a bias.",
    ),
    (lambda: kw.HeNormal(seed=1.5), TypeError, SEED.format("1.5")),
    (lambda: kw.HeNormal(seed=True), TypeError, SEED.format("True")),
    (lambda: kw.HeNormal(seed="x"), TypeError, SEED.format("'x'")),
    (lambda: kw.HeNormal(seed=np.array([1, 2])), TypeError, SEED.format("array([1, 2])")),
    (
        lambda: kw.SmallNormal(10**400),
        ValueError,
        f"`SmallNormal(stddev=...)` must be a number >= 0. Received: stddev={10**400}.",
    ),
    (
        lambda: kw.Constant(1e6)((3, 4), "float16"),
        ValueError,
        "`Constant(value=...)` must be finite in float16. Received: value=1000000.0.",
    ),
    (
        lambda: kw.HeNormal(mode=np.array(["fan_in", "fan_out"])),
        ValueError,
        "`HeNormal(mode=...)` must be one of 'fan_in', 'fan_out'. "
        "Received: mode=array(['fan_in', 'fan_out'], dtype='<U7').",
    ),
    (
        lambda: kw.HeNormal(input_axes=1),
        TypeError,
        "`HeNormal(input_axes=...)` must be a sequence of integers or None. "
        "Received: input_axes=1.",
    ),
    (
        lambda: kw.HeNormal(output_axes=[0.5]),
        TypeError,
        "`HeNormal(output_axes=...)` must be a sequence of integers or None. "
        "Received: output_axes=[0.5].",
    ),
    (
        lambda: kw.HeNormal(input_axes=[2])((3, 4)),
        ValueError,
        AXES.format("(2,)", "None"),
    ),
    (
        lambda: kw.HeNormal(input_axes=[0], output_axes=[-2])((3, 4)),
        ValueError,
        AXES.format("(0,)", "(-2,)"),
    ),
    (
        lambda: kw.Sparse(input_axes=[-3])((3, 4)),
        ValueError,
        AXES.format("(-3,)", "None"),
    ),
    (lambda: fans((3, 4), [0, 0]), ValueError, AXES.format("[0, 0]", "None")),
    *(
        (lambda dtype=dtype: kw.HeNormal()((3, 4), dtype), ValueError, DTYPE.format(repr(dtype)))
        for dtype in (
            "int32",
            "uint8",
            "bool",
            "complex64",
            "float8_e4m3fn",
            "float8_e5m2",
            "float31",
        )
    ),
    (
        lambda: kw.Zeros()((3, 4), np.int32),
        ValueError,
        DTYPE.replace("HeNormal", "Zeros").format(repr(np.int32)),
    ),
    (
        lambda: kw.HeNormal()((3, None)),
        ValueError,
        "`HeNormal` needs a shape of known sizes. Received: shape=(3, None).",
    ),
    (
        lambda: kw.HeNormal()((3, -1)),
        ValueError,
        "`HeNormal` needs a shape of known sizes. Received: shape=(3, -1).",
    ),
    (
        lambda: kw.HeNormal()(3),
        ValueError,
        "`HeNormal` needs a shape of known sizes. Received: shape=3.",
    ),
    (
        lambda: experiments.propagate("winit>zeros", depth=0),
        ValueError,
        "`propagate(depth=...)` must be an integer >= 1. Received: depth=0.",
    ),
    (
        lambda: experiments.propagate("winit>zeros", width=2.5),
        TypeError,
        "`propagate(width=...)` must be an integer >= 1. Received: width=2.5.",
    ),
    (
        lambda: experiments.propagate("winit>zeros", seed=-1),
        ValueError,
        "`propagate(seed=...)` must be an integer >= 0. Received: seed=-1.",
    ),
    (
        lambda: experiments.propagate(None),
        ValueError,
        "`propagate(initializer=...)` must be an initializer. Received: None.",
    ),
    (
        lambda: experiments.propagate("winit>zeros", "softmax"),
        ValueError,
        "`propagate(activation=...)` must act on each entry by itself. "
        "Received: activation='softmax'.",
    ),
    (
        lambda: plots.propagation([]),
        ValueError,
        "`plots.propagation(results=...)` needs a result. Received: none.",
    ),
    (
        lambda: experiments.symmetry("winit>zeros", units=1),
        ValueError,
        "`symmetry(units=...)` must be an integer >= 2. Received: units=1.",
    ),
    (
        lambda: kw.Identity(gain=float("nan")),
        ValueError,
        "`Identity(gain=...)` must be a finite number. Received: gain=nan.",
    ),
    *(
        (
            lambda cls=cls: cls()((5,)),
            ValueError,
            f"`{cls.__name__}` needs a kernel of at least two axes. Received: shape=(5,). "
            "Use `winit>zeros` for a bias.",
        )
        for cls in (kw.Identity, kw.Hadamard)
    ),
    (lambda: kw.Identity(input_axes=[2])((3, 4)), ValueError, AXES.format("(2,)", "None")),
    (
        lambda: kw.Hadamard(input_axes=0),
        TypeError,
        "`Hadamard(input_axes=...)` must be a sequence of integers or None. "
        "Received: input_axes=0.",
    ),
    (
        lambda: kw.Irnn("1"),
        TypeError,
        "`Irnn(gain=...)` must be a finite number. Received: gain='1'.",
    ),
    *(
        (
            lambda shape=shape: kw.Irnn()(shape),
            ValueError,
            "`Irnn` needs the recurrent kernel of a SimpleRNN, (units, units). "
            f"Received: shape={shape}. Wrap it in `winit>per_gate` for a kernel of several "
            "gates; use `winit>identity` for other kernels.",
        )
        for shape in ((32, 128), (5,), (3, 4, 4))
    ),
    (
        lambda: kw.Dirac(groups=0),
        ValueError,
        "`Dirac(groups=...)` must be an integer >= 1. Received: groups=0.",
    ),
    (
        lambda: kw.Dirac(groups=2)((3, 4, 7)),
        ValueError,
        "`Dirac(groups=...)` must divide the number of filters, 7. "
        "Received: groups=2, shape=(3, 4, 7).",
    ),
    (
        lambda: kw.Dirac()((4, 4)),
        ValueError,
        "`Dirac` needs the kernel of a convolution, of three to five axes. "
        "Received: shape=(4, 4). Use `winit>identity`.",
    ),
    (
        lambda: kw.Icnr("winit>nope"),
        ValueError,
        "`Icnr(inner=...)` must be an initializer: its name, its config, its class or an "
        "instance. Received: inner='winit>nope'.",
    ),
    (
        lambda: kw.Icnr(block_size=1),
        ValueError,
        "`Icnr(block_size=...)` must be an integer >= 2. Received: block_size=1.",
    ),
    (
        lambda: kw.Icnr()((4, 4)),
        ValueError,
        "`Icnr` needs the kernel of a convolution, of three to five axes. Received: shape=(4, 4).",
    ),
    (
        lambda: kw.Icnr()((3, 3, 4, 6)),
        ValueError,
        "`Icnr` needs filters in blocks of block_size**2 = 4. "
        "Received: block_size=2, shape=(3, 3, 4, 6).",
    ),
    (
        lambda: kw.Bilinear()((4, 4)),
        ValueError,
        "`Bilinear` needs the kernel of a transposed convolution, of three to five axes. "
        "Received: shape=(4, 4).",
    ),
    (
        lambda: kw.Bilinear()((4, 3, 8, 8)),
        ValueError,
        "`Bilinear` needs windows of 2 * s - s % 2 for strides of s, which are 1, 4, 5, 8, 9 "
        "and so on. Received: shape=(4, 3, 8, 8).",
    ),
    (
        lambda: kw.Siren(first=1),
        TypeError,
        "`Siren(first=...)` must be True or False. Received: first=1.",
    ),
    (
        lambda: kw.Siren(omega=0),
        ValueError,
        "`Siren(omega=...)` must be a number > 0. Received: omega=0.",
    ),
    (
        lambda: kw.FanInBias(fan_in=-1),
        ValueError,
        "`FanInBias(fan_in=...)` must be an integer >= 0. Received: fan_in=-1.",
    ),
    (
        lambda: kw.FanInBias()((5,)),
        ValueError,
        "`FanInBias(fan_in=...)` must be given: the shape of a bias does not show how many "
        "inputs its layer has. Received: fan_in=None, shape=(5,). Give the fan_in, or bind the "
        "scheme to its layer with `for_layer`.",
    ),
    (
        lambda: kw.PriorBias(0.5, [1, 2]),
        ValueError,
        "`PriorBias` takes `probability` or `frequencies`, not both. "
        "Received: probability=0.5, frequencies=[1, 2].",
    ),
    *(
        (lambda p=p: kw.PriorBias(p), error, PROBABILITY.format(repr(p)))
        for error, wrong in (
            (ValueError, (0, 1, [0.5, 1.0], [])),
            (TypeError, (["0.5"], [True], 1j, "0.5")),
        )
        for p in wrong
    ),
    *(
        (lambda f=f: kw.PriorBias(frequencies=f), error, FREQUENCIES.format(f))
        for error, wrong in (
            (ValueError, ([3, 0], [1.0, float("inf")], [10**400])),
            (TypeError, (5, [None])),
        )
        for f in wrong
    ),
    *(
        (
            lambda shape=shape: kw.PriorBias(frequencies=[1, 2, 3])(shape),
            ValueError,
            "`PriorBias` for 3 classes needs as many places along the last axis. "
            f"Received: shape={shape}.",
        )
        for shape in ((4,), (1,), (), (3, 4))
    ),
    (
        lambda: kw.ConvolutionAware(scale=-1),
        ValueError,
        "`ConvolutionAware(scale=...)` must be a number >= 0. Received: scale=-1.",
    ),
    (
        lambda: kw.ConvolutionAware(noise=float("inf")),
        ValueError,
        "`ConvolutionAware(noise=...)` must be a number >= 0. Received: noise=inf.",
    ),
    (
        lambda: kw.ConvolutionAware()((4, 4)),
        ValueError,
        "`ConvolutionAware` needs the kernel of a convolution, of three to five axes. "
        "Received: shape=(4, 4). Use `winit>orthogonal`.",
    ),
    (
        lambda: kw.gain("gleu"),
        ValueError,
        "`gain(activation=...)` must be the name of an activation of Keras, or a function. "
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
        "`gain(mode=...)` must be one of 'second_moment', 'centered', 'backward', 'torch'. "
        "Received: mode='fan_in'.",
    ),
    (
        lambda: kw.gain("gelu", "torch"),
        ValueError,
        "`gain(mode='torch')` knows conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, "
        "conv_transpose3d, leaky_relu, linear, relu, selu, sigmoid, tanh. "
        "Received: activation='gelu'. Another mode has a gain for it.",
    ),
    *(
        (
            lambda function=function: kw.gain(function),
            ValueError,
            "`gain(activation=...)` must have a finite second moment over N(0, 1) that is not "
            f"zero. Received: activation={function!r}.",
        )
        for function in (np.zeros_like, np.log, np.reciprocal, explosive)
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
        lambda: kw.gain(scalar),
        ValueError,
        "`gain(activation=...)` must take a float64 array and give an array. Received: "
        f"activation={scalar!r}, which raised RuntimeError: one at a time",
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
        lambda: kw.critical_point("tanh", q="1"),
        TypeError,
        "`critical_point(q=...)` must be a number > 0. Received: q='1'.",
    ),
    *(
        (
            lambda name=name: kw.critical_point(name, 0.1),
            ValueError,
            "`critical_point(activation=...)` must have a critical point; this one needs a "
            "negative variance of biases at every q from 1e-06 to 30. "
            f"Received: activation={name!r}.",
        )
        for name in ("sigmoid", "softplus")
    ),
    (
        lambda: kw.critical_point("sigmoid", q=1),
        ValueError,
        "`critical_point(q=...)` must leave a variance of biases >= 0 for sigmoid. "
        "Received: q=1, with which it is -5.543.",
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
        "sigma_w=3.0, sigma_b=0.0, with which it grows beyond 90000.",
    ),
    (
        lambda: plots.kernel([]),
        ValueError,
        "`plots.kernel(values=...)` needs values. Received: none.",
    ),
]


@pytest.mark.parametrize(("mistake", "error", "sentence"), WRONG, ids=lambda v: str(v)[:50])
def test_mistake(mistake, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        mistake()
