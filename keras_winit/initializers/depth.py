"""Schemes that know how deep the network is, and those of transformers."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_winit.initializers.base import scheme
from keras_winit.initializers.combinators import Scaled
from keras_winit.initializers.distributions import SmallNormal
from keras_winit.initializers.kernels import KernelScheme, WrappingScheme
from keras_winit.initializers.placement import Array, Part, Shape
from keras_winit.initializers.scaling import HeNormal, XavierNormal

# By what a rule multiplies the weights in a stack of n layers, and the scheme it is for.
RULES: Mapping[str, tuple[Callable[[int], float], Callable[[], Any]]] = {
    "gpt2": (lambda n: (2 * n) ** -0.5, lambda: SmallNormal(0.02)),
    "deepnorm": (lambda n: (8 * n) ** -0.25, XavierNormal),
    "fixup": (lambda n: n**-0.5, lambda: HeNormal(mode="fan_out")),
    "t_fixup": (lambda n: 0.67 * n**-0.25, XavierNormal),
    "sub_ln": (lambda n: math.sqrt(math.log(2 * n)), XavierNormal),
    "wang": (lambda n: 2 / n, lambda: Scaled(SmallInit(), math.sqrt(5 / 2))),
}
# The same where an encoder of n and a decoder of m layers stand together.
ENCODER: Mapping[str, Callable[[int, int], float]] = {
    "deepnorm": lambda n, m: 0.87 * (n**4 * m) ** (-1 / 16),
    "sub_ln": lambda n, m: math.sqrt(math.log(3 * m) * math.log(2 * n) / 3),
    "t_fixup": lambda n, m: 0.67 * n**-0.25,
}
DECODER: Mapping[str, Callable[[int], float]] = {
    "deepnorm": lambda m: (12 * m) ** -0.25,
    "sub_ln": lambda m: math.sqrt(math.log(3 * m)),
    "t_fixup": lambda m: (9 * m) ** -0.25,
}


@scheme
class DepthScaled(WrappingScheme):
    """Another scheme made smaller, or larger, by the depth of a residual network.

    Each branch of a residual network adds to the signal, so that the last ones of many
    must start small. For which weights a rule is, and what else it asks for:

    | rule | the weights times | of | besides |
    | --- | --- | --- | --- |
    | gpt2 | (2 depth)^-1/2 | the last layer of each branch | N(0, 0.02²) elsewhere |
    | deepnorm | (8 depth)^-1/4 | value, output and feed-forward | residuals times (2 depth)^1/4 |
    | fixup | depth^(-1 / (2 layers - 2)) | all but the last of each branch | zeros in that one |
    | t_fixup | 0.67 depth^-1/4 | value, output and feed-forward | no layer norm, no warm-up |
    | sub_ln | √ln(2 depth) | value, output and feed-forward | a norm within each branch |
    | wang | 2 / depth | the last layer of each branch | `small_init` elsewhere |

    Args:
        inner: Any initializer. None, the default: the rule's own, N(0, 0.02²) for gpt2,
            `he_normal` by fan_out for fixup, N(0, 1 / dim) for wang, dim being the smaller
            fan, else `xavier_normal`.
        depth: Layers of the stack, or residual branches for fixup. At least 1. Defaults
            to 12.
        rule: One of the above. Defaults to "gpt2".
        layers: Of each branch, for fixup. At least 2, the default.
        stack: "only", the default, or "encoder" or "decoder" of the two together, for
            deepnorm, t_fixup and sub_ln.
        decoder_depth: For the encoder of two: layers of the decoder. None: `depth`.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
        ValueError: At construction, if a number is too small, or the rule, the stack or
            the initializer is unknown, or the rule has no such stack.

    Example:
        >>> out = keras_winit.DepthScaled(depth=24, rule="deepnorm")
        >>> layer = keras.layers.Dense(64, kernel_initializer=out)

    Departs: "depth" counts layers, each of two branches, except for fixup. GPT-2's own code
        counts branches as well: its N is 2 depth.
    """

    formula = "inner · (2 depth)^-½ (gpt2), (8 depth)^-¼ (deepnorm), ..."
    use = "residual branches of deep networks"
    source = (
        "Radford et al. 2019 (GPT-2), section 2.3; arXiv:2203.00555 (deepnorm), 1901.09321 "
        "(fixup), ICML 2020 Huang et al. (t_fixup), 2210.06423 (sub_ln), 2204.06745 (wang)"
    )

    inner: Any = None
    depth: int = 12
    rule: str = "gpt2"
    layers: int = 2
    stack: str = "only"
    decoder_depth: int | None = None

    def __post_init__(self) -> None:
        self._require_choice("rule", tuple(RULES))
        if self.inner is None:
            self.inner = RULES[self.rule][1]()
        super().__post_init__()
        self._require_whole("depth", 1)
        self._require_whole("layers", 2)
        stacks = ("only", "encoder", "decoder") if self.rule in ENCODER else ("only",)
        self._require_choice("stack", stacks)
        if self.decoder_depth is not None:
            self._require_whole("decoder_depth", 1)

    @property
    def factor(self) -> float:
        """What the weights are multiplied by."""
        if self.stack == "encoder":
            return ENCODER[self.rule](self.depth, self.decoder_depth or self.depth)
        if self.stack == "decoder":
            return DECODER[self.rule](self.depth)
        if self.rule == "fixup":
            return float(self.depth ** (-1 / (2 * self.layers - 2)))
        return RULES[self.rule][0](self.depth)

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        return self.scaled_inner(shape, dtype, self.factor)


class _ByWidth(KernelScheme):
    def _stddev(self, shape: Shape) -> float:
        raise NotImplementedError

    def plan(self, shape: Shape, dtype: str) -> Callable[[Part], Array]:
        stream, stddev = self.stream(), self._stddev(shape)
        return lambda part: stream.normal(shape, dtype, part, stddev)


@scheme
class SmallInit(_ByWidth):
    """N(0, 2 / (5 dim)): the Xavier rule of a feed-forward layer, for all of a transformer.

    That layer goes from `dim` to `4 * dim`, and its variance, 2 / (dim + 4 dim), keeps the
    attention's logits small without warm-up.

    Args:
        dim: Width of the model, at least 1. None, the default: the smaller fan.
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At construction, if `dim` is less than 1.

    Example:
        >>> layer = keras.layers.MultiHeadAttention(8, 64, kernel_initializer="winit>small_init")
    """

    formula = "N(0, 2 / (5 dim))"
    use = "transformers without warm-up"
    source = "Nguyen and Salazar 2019, arXiv:1910.05895, section 2.2"

    dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim is not None:
            self._require_whole("dim", 1)

    def _stddev(self, shape: Shape) -> float:
        return math.sqrt(2 / (5 * (self.dim or min(self.fans(shape)) or 1)))


@scheme
class EmbeddingNormal(_ByWidth):
    """N(0, 1 / dim) for a table `(vocabulary, dim)`: rows of norm 1.

    A head that shares the table then gives logits of variance 1 to unit signals, and rows
    times sqrt(dim), as transformers take them, have unit entries.

    Args:
        **shared: `seed`, axes, `kind`, `groups`, `gates`, `strides`, as in `KernelScheme`.

    Raises:
        ValueError: At call, if the shape has no axes.

    Example:
        >>> rows = keras_winit.EmbeddingNormal()
        >>> layer = keras.layers.Embedding(1000, 64, embeddings_initializer=rows)

    Departs: Keras' default for embeddings is U(-0.05, 0.05), whatever their width.
    """

    formula = "N(0, 1 / dim), dim the last axis"
    use = "embeddings, also tied to the output"
    source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.4"

    def _stddev(self, shape: Shape) -> float:
        if not shape:
            raise ValueError(f"`EmbeddingNormal` needs a table of rows. Received: shape={shape}.")
        return 1 / math.sqrt(shape[-1] or 1)
