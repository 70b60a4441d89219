"""Errors of the schemes with a special structure: identities, convolutions, biases."""

import re

import numpy as np
import pytest

import keras_winit as kw

AXES = (
    "`input_axes` and `output_axes` must name different axes of the kernel, each from -2 to 1 "
    "for shape=(3, 4). Received: input_axes={}, output_axes={}."
)
MASK = "`Masked(mask=...)` must be an array of 0 and 1. Received: mask={!r}."
PROBABILITY = (
    "`PriorBias(probability=...)` must be a number in (0, 1), or one for each class. "
    "Received: probability={}."
)
FREQUENCIES = (
    "`PriorBias(frequencies=...)` must be numbers > 0, one for each class. "
    "Received: frequencies={}."
)


WRONG = [
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
        "`Icnr` needs a number of filters that is a multiple of block_size**2 = 4. "
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
        "`Bilinear` needs a window of size 2 * s - s % 2 for stride s: 1, 4, 5, 8, 9 and so on. "
        "Received: shape=(4, 3, 8, 8).",
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
            (TypeError, (np.array(0.5), ["0.5"], [True], 1j, "0.5")),
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
            "`PriorBias` for 3 classes needs a bias whose last axis has that size. "
            f"Received: shape={shape}.",
        )
        for shape in ((4,), (1,), (), (3, 4))
    ),
    *(
        (
            lambda scale=scale: kw.ConvolutionAware(scale=scale),
            ValueError,
            f"`ConvolutionAware(scale=...)` must be a number > 0. Received: scale={scale}.",
        )
        for scale in (-1, 0)
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
        lambda: kw.Scaled(gain=float("inf")),
        ValueError,
        "`Scaled(gain=...)` must be a finite number. Received: gain=inf.",
    ),
    (
        lambda: kw.Scaled(gain=None),
        TypeError,
        "`Scaled(gain=...)` must be a finite number. Received: gain=None.",
    ),
    *(
        (lambda mask=mask: kw.Masked(mask=mask), ValueError, MASK.format(mask))
        for mask in (2, 0.5, [0, -1], [[1, 0], [1]], "on", [None])
    ),
    (
        lambda: kw.Masked(mask=[[1, 0, 1]])((3, 4)),
        ValueError,
        "`Masked(mask=...)` must have a shape that broadcasts to the kernel. Received: a mask of "
        "shape (1, 3), shape=(3, 4).",
    ),
    (
        lambda: kw.Masked(mask=[[[1]]])((3, 4)),
        ValueError,
        "`Masked(mask=...)` must have a shape that broadcasts to the kernel. Received: a mask of "
        "shape (1, 1, 1), shape=(3, 4).",
    ),
    *(
        (
            lambda inners=inners: kw.Blocks(inners),
            ValueError,
            f"`Blocks(inners=...)` must be a list of initializers. Received: inners={inners!r}.",
        )
        for inners in ([], "winit>zeros")
    ),
    (
        lambda: kw.Blocks(["zeros", "winit>nope"]),
        ValueError,
        "`Blocks(inners=...)` must be an initializer: its name, its config, its class or an "
        "instance. Received: inners=['zeros', 'winit>nope'].",
    ),
    *(
        (
            lambda sizes=sizes: kw.Blocks(["zeros", "ones"], sizes),
            ValueError,
            f"`Blocks(sizes=...)` must be 2 integers >= 0. Received: sizes={sizes!r}.",
        )
        for sizes in ((1, 2, 3), (4,), (-1, 5))
    ),
    *(
        (
            lambda sizes=sizes: kw.Blocks(["zeros", "ones"], sizes),
            TypeError,
            "`Blocks(sizes=...)` must be a list of integers, one for each block. "
            f"Received: sizes={sizes!r}.",
        )
        for sizes in ((1.5, 2), 4)
    ),
    (
        lambda: kw.Blocks(["zeros"], axis=0.5),
        TypeError,
        "`Blocks(axis=...)` must be an integer. Received: axis=0.5.",
    ),
    *(
        (
            lambda sizes=sizes, axis=axis: kw.Blocks(["zeros", "ones"], sizes, axis=axis)((4, 5)),
            ValueError,
            "`Blocks` needs blocks whose sizes add up to the size of the axis. Received: 2 blocks, "
            f"sizes={sizes}, axis={axis}, shape=(4, 5).",
        )
        for sizes, axis in ((None, -1), ((1, 2), 0), (None, 2), (None, -3))
    ),
]


@pytest.mark.parametrize(("mistake", "error", "message"), WRONG, ids=lambda v: str(v)[:50])
def test_error_message(mistake, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        mistake()
