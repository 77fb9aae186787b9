"""Software Carbon Intensity (ISO/IEC 21031:2024): ``(O + M) per R``, and the water and money beside it.

``O = E * I`` with the energy of all reserved hardware including the building's share (PUE), and a
location-based intensity. ``M = TE * (TiR / EL) * (RR / ToR)``. Without a unit R there is no score.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_carbon.carbon import tables
from mlflow_carbon.errors import DataError
from mlflow_carbon.units import J_PER_KWH, Range

S_PER_YEAR = 365.25 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What was reserved. The embodied emissions are those of all of it."""

    embodied_g: Range
    lifetime_s: float
    share: float = 1.0
    """Reserved share of the hardware, RR / ToR, 0 to 1."""
    source: str = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sci:
    """A score with its parts; ``None`` where a part is not known, with the reason."""

    operational_g: Range
    embodied_g: Range | None
    units: float | None
    unit: str
    missing: tuple[str, ...]

    @property
    def score_g(self) -> Range | None:
        """Grams of CO2e per unit; nothing while a part is missing."""
        if self.embodied_g is None or self.units is None:
            return None
        return (self.operational_g + self.embodied_g).scaled(1 / self.units)


def operational_g(boundary_j: float, g_per_kwh: Range, pue: float) -> Range:
    """Grams of CO2e of the energy of the reserved hardware and its share of the building."""
    return g_per_kwh.scaled(boundary_j / J_PER_KWH * pue)


def embodied_g(hardware: Hardware, reserved_s: float) -> Range:
    """The part of the making of the hardware that the reserved time stands for."""
    return hardware.embodied_g.scaled(reserved_s / hardware.lifetime_s * hardware.share)


def from_table(key: str) -> Range:
    """Embodied grams of one item of the shipped table; its published range, else just the value.

    Raises:
        DataError: there is no such item; names those there are.
    """
    rows = {row["key"]: row for row in tables.rows("embodied")}
    if key not in rows:
        raise DataError(f"no embodied emissions for {key!r}. There are: {', '.join(sorted(rows))}.")
    row = rows[key]
    mid = float(row["kg_co2e"])
    low, high = float(row["kg_low"] or mid), float(row["kg_high"] or mid)
    return Range(low, mid, high).scaled(1000.0)


def default_lifetime_s() -> float:
    """Of a server, from the shipped table."""
    row = next(row for row in tables.rows("lifetime") if row["key"] == "server")
    return float(row["years"]) * S_PER_YEAR


def water_l(energy_j: float, *, site_l_per_kwh: float, grid_l_per_kwh: float, pue: float) -> float:
    """Litres: cooling on the site per kWh of IT energy, and the power plants' per kWh drawn."""
    energy_kwh = energy_j / J_PER_KWH
    return energy_kwh * site_l_per_kwh + energy_kwh * pue * grid_l_per_kwh


def cost(energy_j: float, *, price_per_kwh: float, pue: float) -> float:
    """In the currency of the price."""
    return energy_j / J_PER_KWH * pue * price_per_kwh
