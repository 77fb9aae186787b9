"""Carbon intensity of electricity: the factor, where it is from, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_carbon.carbon import tables
from mlflow_carbon.carbon.own import OwnFactor
from mlflow_carbon.carbon.region import WORLD, Region
from mlflow_carbon.units import Range

YEAR_TO_YEAR = 0.175
"""Least half-width of every factor: the 90th percentile of how much a country's value changes within one
year (our table of countries, 2016 to 2025, without very small grids). A factor is a past year's average, the electricity was used later."""

SPREAD_YEARS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One emission factor with everything needed to judge it and to compute again without us."""

    g_per_kwh: Range
    """Low and high from the published spread (last five years, or the spread of countries for the world)."""
    region: str
    """ISO 3166 code, ``provider/region`` or ``WORLD``: the row that was used."""
    region_name: str
    region_source: str
    """setting | evidence | provider | guess | unknown; see ``region.py``."""
    region_reason: str
    """What was found, for a person: ``time zone Europe/Paris``."""
    source: str
    """The attribution line its license asks for."""
    title: str
    """The source in a few words."""
    source_id: str
    year: int
    license: str
    basis: str
    """``lifecycle`` or ``direct``; never compared with one another."""
    kind: str = "average"
    """``average`` or ``marginal``."""
    period: str = "annual"
    """``annual`` or ``hourly``."""
    table: str = ""
    table_sha256: str = ""
    spread: str = ""
    """How low and high came about."""
    note: str = ""
    """What else a reader must know: ``CO2 only, not CO2e``."""
    hours: tuple[object, ...] = ()
    """Of an hourly factor: every hour with its value and joules (``live.HourlyValue``)."""
    not_live: str = ""
    """Why an hourly factor that was asked for is not used."""

    @property
    def basis_text(self) -> str:
        """``lifecycle, annual average, location-based``: what the figure means, in one line."""
        text = f"{self.basis}, {self.period} {self.kind}, location-based"
        return f"{text} ({self.note})" if self.note else text


class _Found(NamedTuple):
    """A row with its spread, before it is joined with the region and the source."""

    table: str
    code: str
    row: tables.Row
    g_per_kwh: Range
    basis: str
    spread: str
    note: str = ""


def factor_for(region: Region, own: Mapping[str, OwnFactor] | None = None) -> Factor:
    """The most specific published factor of a region: cloud region, province or state, country, world.

    A row of the user's own table for just this region comes first. A country without a published
    value gets the world's value and says so; never a neighbour's.
    """
    if own and region.code in own:
        return _of_own(region, own[region.code])
    found = (
        _of_cloud_region(region.code)
        or _of_subdivision(region.code)
        or _of_country(region.code.partition("-")[0])
        or _of_world()
    )
    source = tables.sources()[found.row["source_id"]]
    reason = region.reason
    if found.code == WORLD != region.code:
        reason += f"; no published factor for {region.name or region.code}, so the world's is used"
    return Factor(
        g_per_kwh=found.g_per_kwh,
        region=found.code,
        region_name=found.row.get("name") or region.name,
        region_source=region.source,
        region_reason=reason,
        source=source.attribution,
        title=source.short,
        source_id=source.source_id,
        year=int(found.row["year"]),
        license=found.row["license"],
        basis=found.basis,
        table=f"{found.table}.csv",
        table_sha256=tables.sha256(found.table),
        spread=found.spread,
        note=found.note,
    )


def _of_own(region: Region, own: OwnFactor) -> Factor:
    return Factor(
        g_per_kwh=own.g_per_kwh,
        region=own.code,
        region_name=own.name,
        region_source=region.source,
        region_reason=region.reason,
        source=own.source,
        title=own.source,
        source_id="own-table",
        year=own.year,
        license=own.license,
        basis=own.basis,
        kind=own.kind,
        table=own.table,
        table_sha256=own.table_sha256,
        spread=own.spread,
        note=own.note,
    )


def years_of(code: str) -> list[tables.Row]:
    """The rows of one country, oldest first; none for a country without a published value."""
    found = [row for row in tables.rows("grid_country") if row["code"] == code]
    return sorted(found, key=lambda row: int(row["year"]))


def latest_of_countries() -> list[float]:
    """The latest value of every country, lowest first."""
    latest: dict[str, tuple[int, float]] = {}
    for row in tables.rows("grid_country"):
        value = int(row["year"]), float(row["g_per_kwh"])
        latest[row["code"]] = max(latest.get(row["code"], value), value)
    return sorted(value for _, value in latest.values())


def _widened(low: float, mid: float, high: float) -> Range:
    return Range(min(low, mid * (1 - YEAR_TO_YEAR)), mid, max(high, mid * (1 + YEAR_TO_YEAR)))


def _of_country(code: str) -> _Found | None:
    recent = years_of(code)[-SPREAD_YEARS:]
    if not recent:
        return None
    values = [float(row["g_per_kwh"]) for row in recent]
    latest = recent[-1]
    return _Found(
        table="grid_country",
        code=code,
        row=latest,
        g_per_kwh=_widened(min(values), values[-1], max(values)),
        basis="lifecycle",
        spread=f"lowest and highest year of {recent[0]['year']} to {latest['year']}, at least 17.5 % either way",
        note="very small grid, rounding shows" if latest["flag"] == "tiny_grid" else "",
    )


def _of_subdivision(code: str) -> _Found | None:
    row = next((row for row in tables.rows("grid_subnational") if row["code"] == code), None)
    if row is None:
        return None
    mid = float(row["g_per_kwh"])
    low, high, spread = mid, mid, "17.5 % either way: usual change within a year"
    country = _of_country(code.partition("-")[0])
    if "ignores imports" in row["note"] and country is not None:
        low, high = min(low, country.g_per_kwh.mid), max(high, country.g_per_kwh.mid)
        spread = "from the area's own generation to the country's mix, at least 17.5 % either way"
    return _Found(
        table="grid_subnational",
        code=code,
        row=row,
        g_per_kwh=_widened(low, mid, high),
        basis=row["basis"],
        spread=spread,
        note=row["note"],
    )


def _of_cloud_region(code: str) -> _Found | None:
    provider, _, name = code.partition("/")
    for row in tables.rows("cloud_regions"):
        if row["provider"] == provider and row["region"] == name:
            break
    else:
        return None
    if not row["provider_g_per_kwh"]:
        return _of_subdivision(row["subdivision"]) or _of_country(row["country"])
    mid = float(row["provider_g_per_kwh"])
    return _Found(
        table="cloud_regions",
        code=code,
        row=row,
        g_per_kwh=_widened(mid, mid, mid),
        basis="direct",
        spread="17.5 % either way: usual change within a year",
        note="published by the provider for this region",
    )


def _of_world() -> _Found:
    row = next(tables.rows("grid_world"))
    latest = latest_of_countries()
    cut = round(0.025 * len(latest))
    return _Found(
        table="grid_world",
        code=WORLD,
        row=row,
        g_per_kwh=Range(latest[cut], float(row["g_per_kwh"]), latest[-1 - cut]),
        basis="lifecycle",
        spread="from the 2.5th to the 97.5th percentile of countries",
    )
