"""Carbon intensity of electricity: the factor, where it is from, and what it means."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_carbon.units import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One emission factor with everything needed to judge it and to compute again without us."""

    g_per_kwh: Range
    """Low and high from the published spread (last five years, or the spread of countries for the world)."""
    region: str
    """ISO 3166 code, subregion key, or ``WORLD``."""
    region_name: str
    region_source: str
    """setting | evidence | provider | guess | unknown; see ``region.py``."""
    region_reason: str
    """What was found, for a person: ``time zone Europe/Paris``."""
    source: str
    """Title of the source, as its attribution line asks."""
    source_id: str
    year: int
    license: str
    basis: str
    """``lifecycle`` or ``direct``; never compared with one another."""
    kind: str = "average"
    """``average`` or ``marginal``."""
    table: str = ""
    table_sha256: str = ""
