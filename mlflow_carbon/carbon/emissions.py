"""Joules times a factor: grams of CO2e with both spreads combined."""

from __future__ import annotations

from math import hypot

from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.units import J_PER_KWH, Range


def emissions_g(energy_j: Range, factor: Factor) -> Range:
    """Grams of CO2e of some energy.

    The error of the meter and the error of the factor have nothing to do with one another, so their
    relative half-widths add in quadrature, each side by itself. The result is never narrower than
    either alone and never wider than the product of the bounds.
    """
    return product(energy_j, factor.g_per_kwh.scaled(1 / J_PER_KWH))


def product(left: Range, right: Range) -> Range:
    """Two independent non-negative figures multiplied.

    A figure whose mid is 0 but whose high is not has no relative width; there the bounds multiply.
    """
    lowest, mid, highest = left.low * right.low, left.mid * right.mid, left.high * right.high
    if not mid:
        return Range(lowest, mid, highest)
    down = hypot(1 - left.low / left.mid, 1 - right.low / right.mid)
    up = hypot(left.high / left.mid - 1, right.high / right.mid - 1)
    return Range(max(lowest, mid * (1 - down)), mid, min(highest, max(mid, mid * (1 + up))))
