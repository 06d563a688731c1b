"""Numbers that stand for rows of arrays: equal ones for equal rows, as good as never for others."""

import numpy as np


def mixed(values):
    """A one-to-one function of uint64 arrays that makes near numbers far ones (splitmix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
