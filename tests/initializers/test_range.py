"""Very large and very small arguments: right weights, or an error instead of infinities."""

import math
import re

import keras
import numpy as np
import pytest
from support.laws import numpy

import keras_winit as kw

RANGE = (
    "`{}` must have weights that are finite in {}. Received: {!r}. Give it a smaller scale, or "
    "the layer a dtype with a larger range."
)

# Schemes whose weights do not fit a dtype.
TOO_LARGE = [
    (kw.LargeNormal(1e5), "float16"),
    (kw.NegativeNormal(1e5), "float16"),
    (kw.TruncatedNormal(1e5), "float16"),
    (kw.SmallUniform(1e300), "float32"),
    (kw.SmallNormal(1e300), "float32"),
    (kw.TruncatedNormal(1e300), "float32"),
    (kw.LargeNormal(3e38), "bfloat16"),
    (kw.XavierUniform(1e200), "float32"),
    (kw.Sparse(stddev=1e6), "float16"),
    (kw.Orthogonal(1e300), "float32"),
    (kw.DeltaOrthogonal(1e6), "float16"),
    (kw.Siren(omega=1e-300), "float32"),
    (kw.Scaled(kw.LargeNormal(1e4), 100.0), "float16"),
    (kw.Scaled(keras.initializers.RandomNormal(stddev=1e5)), "float16"),
    (kw.Masked(kw.LargeNormal(1e5)), "float16"),
    (kw.PerGate(kw.LargeNormal(1e5)), "float16"),
    (kw.Blocks([kw.LargeNormal(1e5)] * 2), "float16"),
    (kw.DepthScaled(kw.LargeNormal(1e6)), "float16"),
]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("scheme", "dtype"), TOO_LARGE, ids=lambda v: repr(v)[:40])
def test_weights_that_do_not_fit_the_dtype_are_refused(scheme, dtype):
    message = RANGE.format(type(scheme).__name__, dtype, scheme)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        scheme((40, 40), dtype)


@pytest.mark.parametrize(
    ("scheme", "name", "value"),
    [
        (kw.Identity(70000.0), "gain", "70000.0"),
        (kw.Hadamard(-70000.0), "gain", "-70000.0"),
        (kw.NoisyIdentity(-70000.0), "gain", "-70000.0"),
        (kw.Irnn(70000.0), "gain", "70000.0"),
        (kw.Constant([[0.0, 1e6]]), "value", "[[0.0, 1000000.0]]"),
    ],
    ids=lambda v: repr(v)[:40],
)
def test_values_that_do_not_fit_the_dtype_are_refused(scheme, name, value):
    message = f"`{type(scheme).__name__}({name}=...)` must be finite in float16. "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}Received: {re.escape(name)}="):
        scheme((2, 2), "float16")
    assert value in repr(scheme)
    assert np.isfinite(numpy(scheme((2, 2), "float32"))).all()


def test_the_largest_scale_that_fits_is_accepted():
    # No draw of these reaches 65504, the largest number of float16.
    weights = numpy(kw.SmallUniform(60000.0, seed=0)((300, 300), "float16"))
    assert np.abs(weights.astype(float)).max() == pytest.approx(60000, rel=0.01)
    assert np.isfinite(numpy(kw.LargeNormal(1e4, seed=0)((30, 30), "float16"))).all()


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 by default")
@pytest.mark.parametrize("exponent", [200, -200, 300, -160])
@pytest.mark.parametrize("name", ["XavierUniform", "LecunNormal", "FanInUniform"])
def test_a_gain_whose_square_has_no_place_in_float64_is_still_right(name, exponent):
    gain = 10.0**exponent
    unit = numpy(getattr(kw, name)(seed=1)((30, 40), "float64"))
    scaled = numpy(getattr(kw, name)(gain, seed=1)((30, 40), "float64"))
    np.testing.assert_allclose(scaled / gain, unit, rtol=1e-14)


@pytest.mark.parametrize("name", ["HeNormal", "HeUniform"])
@pytest.mark.parametrize("slope", [1e99, 1e101, 1e200, -1e200])
def test_a_steep_leaky_relu_has_a_small_gain(name, slope):
    cls = getattr(kw, name)
    # Expects sqrt(2 / fan_in) / abs(slope): the 1 in 1 + slope**2 is too small to matter.
    stddev = cls(slope).stddev((50, 40))
    assert stddev * abs(slope) == pytest.approx(math.sqrt(2 / 50), rel=1e-14)


def test_the_gain_of_a_steep_leaky_relu_in_the_mode_of_torch():
    gain = kw.gain("leaky_relu", "torch", negative_slope=1e200)
    assert gain * 1e200 == pytest.approx(math.sqrt(2), rel=1e-14)


BELOW = "`{}({}=...)` must be an integer below 2**63. Received: {}={}."


@pytest.mark.parametrize(
    ("cls", "name"),
    [(kw.FanInBias, "fan_in"), (kw.DepthScaled, "depth"), (kw.Sparse, "connections")],
)
def test_integers_beyond_64_bits_are_refused(cls, name):
    message = BELOW.format(cls.__name__, name, name, 10**320)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cls(**{name: 10**320})


def test_an_orthogonal_matrix_for_a_huge_window_is_refused():
    message = (
        "`ConvolutionAware` needs a smaller window: for each filter it draws an orthogonal matrix "
        "of 501000 rows and columns. Received: shape=(1000, 1000, 1, 1). Use `winit>he_normal`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kw.ConvolutionAware()((1000, 1000, 1, 1))
