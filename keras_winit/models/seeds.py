"""Seeds derived from one seed, one for each thing that is drawn."""

import numpy as np


def derived_seeds(seed: int, count: int) -> list[int]:
    """Derive independent seeds, small enough for any initializer, from one seed.

    The first seeds do not depend on how many follow.
    """
    states = np.random.SeedSequence(seed).generate_state(count)
    return [int(state) >> 1 for state in states]
