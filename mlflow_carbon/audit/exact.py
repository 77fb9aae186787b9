"""Sums of floating-point numbers that do not depend on the order: added up exactly, rounded once at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_LEAST_EXPONENT = 1126
"""Every double is a whole number of 2 ** -1126, as ``frexp`` splits it into 53 bits and an exponent."""
_HALF_BITS = 26
_HALF = (1 << _HALF_BITS) - 1


@dataclass(frozen=True, slots=True)
class Exact:
    """A sum so far; sums of parts may be added up in any order."""

    units: int = 0
    beyond: float = 0.0
    """Sum of what is infinite or no number."""

    def __add__(self, other: Exact) -> Exact:
        """Both together."""
        return Exact(self.units + other.units, self.beyond + other.beyond)

    def rounded(self) -> float:
        """The double nearest to the sum."""
        if self.beyond != 0.0:
            return self.beyond
        try:
            return self.units / (1 << _LEAST_EXPONENT)
        except OverflowError:
            return math.inf if self.units > 0 else -math.inf


def exactly(values: ArrayLike) -> Exact:
    """The sum of the values."""
    every = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(every)
    beyond = float(every[~finite].sum())
    mantissas, exponents = np.frexp(every[finite])
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    shifts = exponents + (_LEAST_EXPONENT - 53)
    units = 0
    # Halves of 27 bits: floats add up some 2 ** 26 of them without rounding.
    for half, bits in ((whole >> _HALF_BITS, _HALF_BITS), (whole & _HALF, 0)):
        sums = np.bincount(shifts, weights=half)
        units += sum(int(sums[shift]) << (int(shift) + bits) for shift in np.flatnonzero(sums))
    return Exact(units, beyond)


def total(values: Iterable[float]) -> float:
    """The sum of the values, whatever their order."""
    return exactly(list(values)).rounded()
