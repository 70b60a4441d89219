"""Statistics of one tensor: a layer's output, a pre-activation, a kernel or its gradient."""

from keras_winit.statistics.distribution import EDGES as EDGES
from keras_winit.statistics.distribution import histogram as histogram
from keras_winit.statistics.distribution import quantiles as quantiles
from keras_winit.statistics.moments import Moments as Moments
from keras_winit.statistics.moments import samples_per_row as samples_per_row
from keras_winit.statistics.repeated_units import distinct_units as distinct_units
from keras_winit.statistics.repeated_units import repeated_share as repeated_share
from keras_winit.statistics.repeated_units import unit_sums as unit_sums
from keras_winit.statistics.samples import mean_cosine as mean_cosine
from keras_winit.statistics.saturation import BANDS as BANDS
from keras_winit.statistics.saturation import FLAT as FLAT
from keras_winit.statistics.saturation import count_saturated as count_saturated
from keras_winit.statistics.saturation import elementwise as elementwise
from keras_winit.statistics.saturation import saturated_share as saturated_share
from keras_winit.statistics.summary import SUMMARY as SUMMARY
from keras_winit.statistics.summary import summary as summary
from keras_winit.statistics.tensor_norms import norms as norms
from keras_winit.statistics.units import Units as Units
from keras_winit.statistics.units import flatten as flatten
from keras_winit.statistics.units import join_units as join_units
from keras_winit.statistics.units import reduce_units as reduce_units
