"""Weight initialization for Keras 3; importing it registers every `winit>` name."""

from keras_winit.experiments import propagate as propagate
from keras_winit.experiments import symmetry as symmetry
from keras_winit.initializers import REGISTRY as REGISTRY
from keras_winit.initializers import KernelScheme as KernelScheme
from keras_winit.initializers import RandomScheme as RandomScheme
from keras_winit.initializers import Scheme as Scheme
from keras_winit.initializers import scheme as scheme
from keras_winit.initializers.constants import Constant as Constant
from keras_winit.initializers.constants import Ones as Ones
from keras_winit.initializers.constants import Zeros as Zeros
from keras_winit.initializers.distributions import LargeNormal as LargeNormal
from keras_winit.initializers.distributions import NegativeNormal as NegativeNormal
from keras_winit.initializers.distributions import SmallNormal as SmallNormal
from keras_winit.initializers.distributions import SmallUniform as SmallUniform
from keras_winit.initializers.distributions import TruncatedNormal as TruncatedNormal
from keras_winit.initializers.scaling import FanInUniform as FanInUniform
from keras_winit.initializers.scaling import HeNormal as HeNormal
from keras_winit.initializers.scaling import HeUniform as HeUniform
from keras_winit.initializers.scaling import LecunNormal as LecunNormal
from keras_winit.initializers.scaling import LecunUniform as LecunUniform
from keras_winit.initializers.scaling import VarianceScaling as VarianceScaling
from keras_winit.initializers.scaling import XavierNormal as XavierNormal
from keras_winit.initializers.scaling import XavierUniform as XavierUniform
from keras_winit.initializers.sparse import Sparse as Sparse
from keras_winit.monitor.callback import ActivationMonitor as ActivationMonitor

__version__ = "0.1.0"

__all__ = [
    "REGISTRY",
    "ActivationMonitor",
    "KernelScheme",
    "RandomScheme",
    "Scheme",
    "__version__",
    "propagate",
    "scheme",
    "symmetry",
    *(cls.__name__ for cls in REGISTRY.values()),
]
