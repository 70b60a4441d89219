"""Errors of the schemes: each message names the argument, the value and the remedy."""

import re

import numpy as np
import pytest

import keras_winit as kw

CHOICES = "'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg'"
DTYPE = (
    "`HeNormal` makes weights of dtype bfloat16, float16, float32 or float64. "
    "Received: dtype={}. Use one of these dtypes, and cast or quantize the weights afterwards."
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
    "`TruncatedNormal(bounds=...)` must be so far apart that the standard deviation between them "
    "exceeds 1e-6, and 1e-6 times the bound closer to zero. Received: bounds={}."
)


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
        "`VarianceScaling(scale=...)` must be a number > 0. Received: scale=-1.",
    ),
    (
        lambda: kw.VarianceScaling(scale=0),
        ValueError,
        "`VarianceScaling(scale=...)` must be a number > 0. Received: scale=0.",
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
    *(
        (
            lambda cls=cls, name=name: cls(**{name: np.array(0.1)}),
            TypeError,
            f"`{cls.__name__}({name}=...)` must be {requirement}, and no tensor or array. "
            f"Received: {name}=array(0.1). Convert it with `float`.",
        )
        for cls, name, requirement in (
            (kw.SmallNormal, "stddev", "a number >= 0"),
            (kw.Orthogonal, "gain", "a number >= 0"),
            (kw.Identity, "gain", "a finite number"),
        )
    ),
    (
        lambda: kw.TruncatedNormal(bounds=np.array(2.0)),
        ValueError,
        BOUNDS.format("array(2.)"),
    ),
    *(
        (
            lambda value=value: kw.Constant(value),
            TypeError,
            "`Constant(value=...)` must be a finite number, or an array of them. "
            f"Received: value={value!r}.",
        )
        for value in ([[1, 2], [3]], [True], [1j], ["1"], [None])
    ),
    (
        lambda: kw.Constant([0.0, float("nan")]),
        ValueError,
        "`Constant(value=...)` must be a finite number, or an array of them. "
        "Received: value=[0.0, nan].",
    ),
    (
        lambda: kw.Constant([[1], [2], [3]])((1, 3)),
        ValueError,
        "`Constant(value=...)` must have a shape that broadcasts to the weight. Received: a value "
        "of shape (3, 1), shape=(1, 3).",
    ),
    *(
        (
            lambda cls=cls: cls.from_config({**cls().get_config(), "seed": 3}),
            ValueError,
            f"`{cls.__name__}` takes no `seed`. Received: seed=3. If it holds other initializers, "
            "give them seeds.",
        )
        for cls in (kw.Blocks, kw.Identity, kw.Dirac)
    ),
    (
        lambda: kw.Scaled.from_config({"inner": "winit>zeros", "seed": 3}),
        ValueError,
        "`Scaled` takes no `seed`. Received: seed=3. If it holds other initializers, give them "
        "seeds.",
    ),
    (
        lambda: kw.Scaled("function"),
        ValueError,
        "`Scaled(inner=...)` must be an initializer: its name, its config, its class or an "
        "instance. Received: inner='function'.",
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
        lambda: kw.Constant()((3, 4), np.int32),
        ValueError,
        DTYPE.replace("HeNormal", "Constant").format(repr(np.int32)),
    ),
    (
        lambda: kw.HeNormal()((3, None)),
        ValueError,
        "`HeNormal` needs a shape of integers >= 0. Received: shape=(3, None).",
    ),
    (
        lambda: kw.HeNormal()((3, -1)),
        ValueError,
        "`HeNormal` needs a shape of integers >= 0. Received: shape=(3, -1).",
    ),
    *(
        (lambda config=config: kw.HeNormal(seed=config), TypeError, SEED.format(config))
        for config in (
            {"class_name": "function"},
            {"class_name": 3, "config": []},
            {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
        )
    ),
    (lambda: kw.HeNormal()((3, 4), []), ValueError, DTYPE.format("[]")),
    (
        lambda: kw.HeNormal(nonlinearity=[1]),
        ValueError,
        "`HeNormal(nonlinearity=...)` must be an activation or None. Received: nonlinearity=[1].",
    ),
    *(
        (
            lambda gates=gates: kw.ForgetBias(gates=gates),
            ValueError,
            f"`ForgetBias(gates=...)` must be 4 (LSTM) or 3 (GRU). Received: gates={gates!r}.",
        )
        for gates in ([], 2, 4.0)
    ),
    (
        lambda: kw.HeNormal()(3),
        ValueError,
        "`HeNormal` needs a shape of integers >= 0. Received: shape=3.",
    ),
]


@pytest.mark.parametrize(("mistake", "error", "message"), WRONG, ids=lambda v: str(v)[:50])
def test_error_message(mistake, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        mistake()
