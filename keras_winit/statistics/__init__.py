"""Numbers of one tensor: what a layer's output or kernel looks like."""

from keras_winit.statistics.activations import BANDS as BANDS
from keras_winit.statistics.activations import FLAT as FLAT
from keras_winit.statistics.activations import elementwise as elementwise
from keras_winit.statistics.activations import flat as flat
from keras_winit.statistics.activations import saturated_share as saturated_share
from keras_winit.statistics.distribution import EDGES as EDGES
from keras_winit.statistics.distribution import histogram as histogram
from keras_winit.statistics.distribution import quantiles as quantiles
from keras_winit.statistics.kernels import distinct_units as distinct_units
from keras_winit.statistics.kernels import norms as norms
from keras_winit.statistics.kernels import repeated_share as repeated_share
from keras_winit.statistics.kernels import unit_sums as unit_sums
from keras_winit.statistics.summary import SUMMARY as SUMMARY
from keras_winit.statistics.summary import summary as summary
from keras_winit.statistics.units import Reduced as Reduced
from keras_winit.statistics.units import Units as Units
from keras_winit.statistics.units import flatten as flatten
from keras_winit.statistics.units import joined as joined
from keras_winit.statistics.units import reduced as reduced
from keras_winit.statistics.units import side_by_side as side_by_side
