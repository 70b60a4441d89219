"""Ranges of statistics in healthy training, and the color of healthy ranges."""

# The ranges that the rules of the monitor give as `healthy`, by the rule's id.
RANGES = {
    "vanishing_forward": (0.064, 0.975),
    "exploding_forward": (0.07, 1.3),
    "vanishing_backward": (0.008, 0.94),
    "dead_units": (0.0, 0.385),
    "saturated": (0.0, 0.06),
    "update_too_large": (3.7e-5, 6.4e-2),
}

# The ratio of an update to the weights to aim at, a rule of thumb (CS231n).
UPDATE_TARGET = 1e-3

COLOR = "#4d9221"
