"""The emissions of a finished run once more, with factors of each hour: from the joules its evidence holds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_carbon.carbon.hourly import Hour, hour_of
from mlflow_carbon.errors import DataError
from mlflow_carbon.units import J_PER_KWH, Range

MAX_BYTES = 10_000_000
"""Of a table: a century of hours is some 25 MB, a decade fits."""
MAX_G_PER_KWH = 3000.0


def hours_of(evidence: Mapping[str, Any]) -> tuple[Hour, ...]:
    """The joules by hour of an evidence document.

    Raises:
        DataError: it holds none.
    """
    energy = evidence.get("energy")
    try:
        listed = energy["hours"] if energy else []
        hours = tuple(Hour(datetime.fromisoformat(at), float(joules)) for at, joules in listed)
    except (KeyError, TypeError, ValueError):
        hours = ()
    if not hours:
        raise DataError("the evidence holds no energy by the hour: nothing was measured.")
    return hours


def energy_of(evidence: Mapping[str, Any]) -> Range:
    """The attributed joules of an evidence document.

    Raises:
        DataError: it holds none.
    """
    try:
        found = evidence["energy"]["attributed_j"]
        return Range(float(found["low"]), float(found["mid"]), float(found["high"]))
    except (KeyError, TypeError, ValueError):
        raise DataError("the evidence holds no energy: nothing was measured.") from None


def hourly_table(path: Path) -> Mapping[datetime, float]:
    """A CSV with the columns ``hour`` (ISO 8601 with a time zone) and ``g_per_kwh``.

    Raises:
        DataError: unreadable or damaged; names the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if len(content) > MAX_BYTES or not {"hour", "g_per_kwh"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path}: is no table with the columns hour and g_per_kwh.")
        return dict(_row(path, rows.line_num, row) for row in rows)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8: {error}.") from None


def _row(path: Path, line: int, row: Mapping[str, str]) -> tuple[datetime, float]:
    try:
        moment = datetime.fromisoformat(str(row["hour"]).replace("Z", "+00:00"))
        value = float(row["g_per_kwh"])
    except (TypeError, ValueError):
        raise DataError(f"{path}:{line}: expected an hour and a number.") from None
    if moment.tzinfo is None or moment != hour_of(moment):
        raise DataError(f"{path}:{line}: {row['hour']!r} is no hour with a time zone.")
    if not (math.isfinite(value) and 0 <= value <= MAX_G_PER_KWH):
        raise DataError(f"{path}:{line}: {row['g_per_kwh']!r} is no factor in gCO2e/kWh.")
    return hour_of(moment), value


def hourly_emissions_g(hours: Sequence[Hour], factors: Mapping[datetime, float]) -> float:
    """Each hour's joules with its own factor.

    Raises:
        DataError: an hour has none; names the first.
    """
    missing = [hour.start for hour in hours if hour.start not in factors]
    if missing:
        raise DataError(
            f"no factor for {len(missing)} of the run's {len(hours)} hours, the first is {missing[0].isoformat()}."
        )
    return sum(hour.energy_j / J_PER_KWH * factors[hour.start] for hour in hours)
