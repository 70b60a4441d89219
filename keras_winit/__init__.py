"""Weight initialization for Keras 3; importing it registers every `winit>` name."""

from keras_winit.experiments import propagate as propagate
from keras_winit.experiments import symmetry as symmetry
from keras_winit.initializers import REGISTRY as REGISTRY
from keras_winit.initializers import AxesScheme as AxesScheme
from keras_winit.initializers import GainScheme as GainScheme
from keras_winit.initializers import KernelScheme as KernelScheme
from keras_winit.initializers import RandomScheme as RandomScheme
from keras_winit.initializers import Scheme as Scheme
from keras_winit.initializers import WrappingScheme as WrappingScheme
from keras_winit.initializers import scheme as scheme
from keras_winit.initializers.bias import FanInBias as FanInBias
from keras_winit.initializers.bias import PriorBias as PriorBias
from keras_winit.initializers.combinators import Blocks as Blocks
from keras_winit.initializers.combinators import Masked as Masked
from keras_winit.initializers.combinators import Scaled as Scaled
from keras_winit.initializers.constants import Constant as Constant
from keras_winit.initializers.constants import Ones as Ones
from keras_winit.initializers.constants import Zeros as Zeros
from keras_winit.initializers.convolution import ConvolutionAware as ConvolutionAware
from keras_winit.initializers.depth import DepthScaled as DepthScaled
from keras_winit.initializers.depth import EmbeddingNormal as EmbeddingNormal
from keras_winit.initializers.depth import SmallInit as SmallInit
from keras_winit.initializers.distributions import LargeNormal as LargeNormal
from keras_winit.initializers.distributions import NegativeNormal as NegativeNormal
from keras_winit.initializers.distributions import SmallNormal as SmallNormal
from keras_winit.initializers.distributions import SmallUniform as SmallUniform
from keras_winit.initializers.distributions import TruncatedNormal as TruncatedNormal
from keras_winit.initializers.identity import Dirac as Dirac
from keras_winit.initializers.identity import Hadamard as Hadamard
from keras_winit.initializers.identity import Identity as Identity
from keras_winit.initializers.identity import Irnn as Irnn
from keras_winit.initializers.implicit import Siren as Siren
from keras_winit.initializers.orthogonal import DeltaOrthogonal as DeltaOrthogonal
from keras_winit.initializers.orthogonal import Orthogonal as Orthogonal
from keras_winit.initializers.orthogonal import ScaledOrthogonal as ScaledOrthogonal
from keras_winit.initializers.recurrent import Chrono as Chrono
from keras_winit.initializers.recurrent import ForgetBias as ForgetBias
from keras_winit.initializers.recurrent import PerGate as PerGate
from keras_winit.initializers.scaling import FanInUniform as FanInUniform
from keras_winit.initializers.scaling import HeNormal as HeNormal
from keras_winit.initializers.scaling import HeUniform as HeUniform
from keras_winit.initializers.scaling import LecunNormal as LecunNormal
from keras_winit.initializers.scaling import LecunUniform as LecunUniform
from keras_winit.initializers.scaling import VarianceScaling as VarianceScaling
from keras_winit.initializers.scaling import XavierNormal as XavierNormal
from keras_winit.initializers.scaling import XavierUniform as XavierUniform
from keras_winit.initializers.sparse import Sparse as Sparse
from keras_winit.initializers.upsampling import Bilinear as Bilinear
from keras_winit.initializers.upsampling import Icnr as Icnr
from keras_winit.models import fans as fans
from keras_winit.models import for_layer as for_layer
from keras_winit.monitor.callback import ActivationMonitor as ActivationMonitor
from keras_winit.theory import critical_point as critical_point
from keras_winit.theory import gain as gain

__version__ = "0.1.0"

__all__ = [
    "REGISTRY",
    "AxesScheme",
    "GainScheme",
    "ActivationMonitor",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "WrappingScheme",
    "__version__",
    "fans",
    "for_layer",
    "critical_point",
    "gain",
    "propagate",
    "scheme",
    "symmetry",
    *(cls.__name__ for cls in REGISTRY.values()),
]
