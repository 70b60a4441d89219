"""Weight initialization for Keras 3. Importing it registers every `winit>` name with Keras.

The import loads the schemes, which Keras looks up by name, and nothing else: the functions, the
monitor and the subpackages are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from keras_winit.initializers.bias import FanInBias, PriorBias
from keras_winit.initializers.combinators import Blocks, Masked, Scaled
from keras_winit.initializers.constants import Constant, Ones, Zeros
from keras_winit.initializers.convolution import ConvolutionAware
from keras_winit.initializers.depth import DepthScaled, EmbeddingNormal, SmallInit
from keras_winit.initializers.distributions import (
    LargeNormal,
    NegativeNormal,
    SmallNormal,
    SmallUniform,
    TruncatedNormal,
)
from keras_winit.initializers.identity import Dirac, Hadamard, Identity, Irnn
from keras_winit.initializers.implicit import Siren
from keras_winit.initializers.looks_linear import LooksLinear
from keras_winit.initializers.near_linear import NearLinearOrthogonal
from keras_winit.initializers.noisy_identity import NoisyIdentity
from keras_winit.initializers.orthogonal import DeltaOrthogonal, Orthogonal, ScaledOrthogonal
from keras_winit.initializers.recurrent import Chrono, ForgetBias, PerGate
from keras_winit.initializers.scaling import (
    FanInUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)
from keras_winit.initializers.sparse import Sparse
from keras_winit.initializers.upsampling import Bilinear, Icnr
from keras_winit.lazy_loading import lazy_attributes

__version__ = "0.1.0"

__all__ = [
    "ActivationMonitor",
    "Bilinear",
    "Blocks",
    "Chrono",
    "Constant",
    "ConvolutionAware",
    "DeltaOrthogonal",
    "DepthScaled",
    "Dirac",
    "EmbeddingNormal",
    "FanInBias",
    "FanInUniform",
    "ForgetBias",
    "Hadamard",
    "HeNormal",
    "HeUniform",
    "Icnr",
    "Identity",
    "Irnn",
    "LargeNormal",
    "LecunNormal",
    "LecunUniform",
    "LooksLinear",
    "Masked",
    "NearLinearOrthogonal",
    "NegativeNormal",
    "NoisyIdentity",
    "Ones",
    "Orthogonal",
    "PerGate",
    "PriorBias",
    "Scaled",
    "ScaledOrthogonal",
    "Siren",
    "SmallInit",
    "SmallNormal",
    "SmallUniform",
    "Sparse",
    "TruncatedNormal",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "__version__",
    "analytic_init",
    "critical_point",
    "fans",
    "for_layer",
    "gain",
    "lsuv",
    "propagate",
    "reinitialize",
    "signal_report",
    "symmetry",
]

if TYPE_CHECKING:
    from keras_winit import experiments as experiments
    from keras_winit import models as models
    from keras_winit import monitor as monitor
    from keras_winit import plots as plots
    from keras_winit import repair as repair
    from keras_winit import report as report
    from keras_winit import statistics as statistics
    from keras_winit import theory as theory
    from keras_winit.experiments import propagate, symmetry
    from keras_winit.models import fans, for_layer
    from keras_winit.monitor import ActivationMonitor
    from keras_winit.repair.analytic import analytic_init
    from keras_winit.repair.lsuv import lsuv
    from keras_winit.repair.reinitialize import reinitialize
    from keras_winit.report import signal_report
    from keras_winit.theory import critical_point, gain
else:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "ActivationMonitor": "monitor",
            "analytic_init": "repair",
            "critical_point": "theory",
            "experiments": "experiments",
            "fans": "models",
            "for_layer": "models",
            "gain": "theory",
            "lsuv": "repair",
            "models": "models",
            "monitor": "monitor",
            "plots": "plots",
            "propagate": "experiments",
            "reinitialize": "repair",
            "repair": "repair",
            "report": "report",
            "signal_report": "report",
            "statistics": "statistics",
            "symmetry": "experiments",
            "theory": "theory",
        },
    )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
