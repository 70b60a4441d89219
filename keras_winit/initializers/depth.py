"""Schemes for transformers, and schemes that depend on the depth of a residual network."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_winit.initializers.base import scheme
from keras_winit.initializers.combinators import Scaled
from keras_winit.initializers.distributions import SmallNormal
from keras_winit.initializers.kernels import KernelScheme
from keras_winit.initializers.placement import DrawPart, Shape
from keras_winit.initializers.scaling import HeNormal, XavierNormal
from keras_winit.initializers.wrapping import WrappingScheme

# For each rule, the factor of the weights in a stack of n layers, and the default initializer.
RULES: Mapping[str, tuple[Callable[[int], float], Callable[[], Any]]] = {
    "gpt2": (lambda n: (2 * n) ** -0.5, lambda: SmallNormal(0.02)),
    "deepnorm": (lambda n: (8 * n) ** -0.25, XavierNormal),
    "fixup": (lambda n: n**-0.5, lambda: HeNormal(mode="fan_out")),
    "t_fixup": (lambda n: 0.67 * n**-0.25, XavierNormal),
    "sub_ln": (lambda n: math.sqrt(math.log(2 * n)), XavierNormal),
    "wang": (lambda n: 2 / n, lambda: Scaled(SmallInit(), math.sqrt(5 / 2))),
}
# The factors in a network with an encoder of n layers and a decoder of m layers.
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
    """Another initializer, scaled according to the depth of a residual network.

    Each branch of a residual network adds to the signal, so that the branches of a deep network
    must start small. Each rule gives a factor for some of the weights, and has requirements for
    the rest of the network:

    | rule | factor | for the weights of | other requirements |
    | --- | --- | --- | --- |
    | gpt2 | (2 depth)^-1/2 | the last layer of each branch | N(0, 0.02²) elsewhere |
    | deepnorm | (8 depth)^-1/4 | value, output and feed-forward | residuals times (2 depth)^1/4 |
    | fixup | depth^(-1 / (2 layers - 2)) | all but the last of each branch | zeros in the last |
    | t_fixup | 0.67 depth^-1/4 | value, output and feed-forward | no layer norm, no warm-up |
    | sub_ln | √ln(2 depth) | value, output and feed-forward | a norm within each branch |
    | wang | 2 / depth | the last layer of each branch | `small_init` elsewhere |

    Args:
        inner: Any initializer. Defaults to None, the initializer of the rule: N(0, 0.02²) for
            gpt2, `he_normal` by fan_out for fixup, N(0, 1 / dim) for wang, where dim is the
            smaller fan, and `xavier_normal` for the others.
        depth: Number of layers of the stack or, for fixup, of residual branches, at least 1.
            Defaults to 12.
        rule: One of the rules above. Defaults to "gpt2".
        layers: Number of layers of each branch, for fixup, at least 2. Defaults to 2.
        stack: Place of the weights: "only" if the network has one stack, "encoder" or "decoder"
            if it has both. The latter two exist for deepnorm, t_fixup and sub_ln. Defaults to
            "only".
        decoder_depth: For `stack="encoder"`: number of layers of the decoder, at least 1.
            Defaults to `depth`.
        **shared: axes, `kind`, `groups`, `gates`, `strides`, as in `AxesScheme`.

    Raises:
        TypeError: At construction, if an argument has the wrong type.
        ValueError: At construction, if a number is too small, or the rule, the stack or
            the initializer is unknown, or the rule has no such stack.

    Example:
        >>> out = keras_winit.DepthScaled(depth=24, rule="deepnorm")
        >>> layer = keras.layers.Dense(64, kernel_initializer=out)

    Departs: Except for fixup, "depth" counts layers of two branches each. The N of GPT-2's own
        code counts branches: it is 2 depth.
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
        """Factor of the weights."""
        if self.stack == "encoder":
            return ENCODER[self.rule](self.depth, self.decoder_depth or self.depth)
        if self.stack == "decoder":
            return DECODER[self.rule](self.depth)
        if self.rule == "fixup":
            return float(self.depth ** (-1 / (2 * self.layers - 2)))
        return RULES[self.rule][0](self.depth)

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        return self.scaled_inner_plan(shape, dtype, self.factor)


class _WidthNormal(KernelScheme):
    """A normal distribution whose standard deviation depends on the shape only."""

    def _stddev(self, shape: Shape) -> float:
        raise NotImplementedError

    def plan(self, shape: Shape, dtype: str) -> DrawPart:
        stream, stddev = self.stream(), self._stddev(shape)
        return lambda part: stream.normal(shape, dtype, part, stddev)


@scheme
class SmallInit(_WidthNormal):
    """N(0, 2 / (5 dim)): Xavier's variance for a feed-forward layer, in the whole transformer.

    That layer goes from `dim` to `4 * dim`. Its variance, 2 / (dim + 4 dim), keeps the logits of
    the attention small, also without warm-up.

    Args:
        dim: Width of the model, at least 1. Defaults to None: the smaller fan.
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
class EmbeddingNormal(_WidthNormal):
    """N(0, 1 / dim) for a table `(vocabulary, dim)`: its rows have norm 1 on average.

    An output layer that shares the table then gives logits of variance 1 for signals of
    variance 1. Transformers multiply the rows by sqrt(dim), which gives entries of variance 1.

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
    use = "embeddings, also those tied to the output layer"
    source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.4"

    def _stddev(self, shape: Shape) -> float:
        if not shape:
            raise ValueError(f"`EmbeddingNormal` needs a table of rows. Received: shape={shape}.")
        return 1 / math.sqrt(shape[-1] or 1)
