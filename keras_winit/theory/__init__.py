"""Theory of signals in random networks: fans, gains and mean-field maps; numpy only, no Keras.

The schemes need `Use` and `fans`; the rest is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from keras_winit.lazy_loading import lazy_attributes
from keras_winit.theory.fans import Use as Use
from keras_winit.theory.fans import fans as fans

__all__ = ["Use", "critical_point", "expectation", "fans", "gain", "mean_field"]

if TYPE_CHECKING:
    from keras_winit.theory import mean_field as mean_field
    from keras_winit.theory.critical import critical_point as critical_point
    from keras_winit.theory.gains import gain as gain
    from keras_winit.theory.quadrature import expectation as expectation
else:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "critical_point": "critical",
            "expectation": "quadrature",
            "gain": "gains",
            "mean_field": "mean_field",
        },
    )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
