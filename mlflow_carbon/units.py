"""Units: joules, grams and seconds inside; kWh, kg and hours where a person reads."""

from __future__ import annotations

from dataclasses import dataclass

J_PER_KWH = 3_600_000.0
"""Joules in a kilowatt-hour, exact by definition (3,600 s x 1,000 W)."""

G_PER_KG = 1_000.0


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with its uncertainty: ``low <= mid <= high``, all in the unit the name of the field says.

    ``low`` and ``high`` bound the true value at about 95 %; how they came about
    stands beside the figure (method, sensor note, factor spread).
    """

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a range that is not ordered; NaN never is."""
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"not an ordered range: {self.low} <= {self.mid} <= {self.high}")

    @classmethod
    def exactly(cls, value: float) -> Range:
        """A range without width."""
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        """Add bound by bound: errors of the same kind do not cancel."""
        return Range(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def scaled(self, factor: float) -> Range:
        """Each bound times ``factor``, which must not be negative."""
        return Range(self.low * factor, self.mid * factor, self.high * factor)


def kwh(energy_j: float) -> float:
    """Joules as kilowatt-hours."""
    return energy_j / J_PER_KWH


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _in_steps(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    size, unit = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{_three_digits(value / size)} {unit}"


_ENERGY_STEPS = ((1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh"), (1e-3, "mWh"))


def energy_unit(energy_j: float) -> tuple[float, str]:
    """The unit a person reads this much energy in, for a scale: its size in joules, and its name."""
    steps = (one for one in _ENERGY_STEPS if abs(energy_j) / 3600.0 >= one[0])
    size, unit = next(steps, _ENERGY_STEPS[-1])
    return size * 3600.0, unit


def show_energy(energy_j: float) -> str:
    """Joules as a person reads them, three digits: ``1.23 Wh``, ``41.2 kWh``, ``12.4 MWh``."""
    return _in_steps(energy_j / 3600.0, _ENERGY_STEPS)


def show_emissions(emissions_g: float) -> str:
    """Grams of CO2e as a person reads them, three digits: ``0.52 g``, ``1.20 kg``, ``3.40 t``."""
    return _in_steps(emissions_g, ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"))) + " CO2e"


def show_range(low: str, high: str) -> str:
    """Two figures shown as above, what their units share told once: ``0.34 to 0.78 g CO2e``, ``800 mg to 1.2 g CO2e``."""
    number, _, unit = low.partition(" ")
    if unit == high.partition(" ")[2]:
        return f"{number} to {high}"
    return f"{low.removesuffix(' CO2e')} to {high}"


def show_duration(duration_s: float) -> str:
    """Seconds as a person reads them: ``0.8 s``, ``3 min 20 s``, ``7 h 05 min``."""
    if duration_s < 60:
        return f"{_three_digits(duration_s)} s"
    if duration_s < 3600:
        return f"{int(duration_s // 60)} min {int(duration_s % 60)} s"
    return f"{int(duration_s // 3600)} h {int(duration_s % 3600 // 60):02d} min"
