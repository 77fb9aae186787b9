"""Emissions once more with other factors, from the joules that are on record by the hour."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlflow_carbon.carbon.hourly import Hour
from mlflow_carbon.carbon.recompute import energy_of, hourly_emissions_g, hourly_table, hours_of
from mlflow_carbon.errors import DataError

TEN = datetime(2026, 11, 23, 10, tzinfo=timezone.utc)
HOURS = (Hour(TEN, 3_600_000.0), Hour(TEN + timedelta(hours=1), 7_200_000.0))


def table(folder: Path, text: str) -> Path:
    path = folder / "hours.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_hour_counts_with_its_own_factor(tmp_path: Path) -> None:
    path = table(tmp_path, "hour,g_per_kwh\n2026-11-23T10:00Z,40\n2026-11-23T16:30+05:30,100\n")
    assert hourly_emissions_g(HOURS, hourly_table(path)) == pytest.approx(40.0 + 200.0)


def test_an_hour_without_a_factor_is_named_and_nothing_is_put_in_its_place() -> None:
    with pytest.raises(DataError, match="1 of the run's 2 hours, the first is 2026-11-23T11:00"):
        hourly_emissions_g(HOURS, {TEN: 40.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,what\n", "columns hour and g_per_kwh"),
        ("hour,g_per_kwh\nnoon,1\n", ":2: expected an hour"),
        ("hour,g_per_kwh\n2026-11-23T10:00,1\n", ":2: .* no hour with a time zone"),
        ("hour,g_per_kwh\n2026-11-23T10:20Z,1\n", ":2: .* no hour"),
        ("hour,g_per_kwh\n2026-11-23T10:00Z,nan\n", "no factor in gCO2e/kWh"),
        ("hour,g_per_kwh\n2026-11-23T10:00Z,-1\n", "no factor in gCO2e/kWh"),
        ("hour,g_per_kwh\n2026-11-23T10:00Z\n", ":2: expected an hour"),
    ],
)
def test_a_damaged_table_of_hours_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        hourly_table(table(tmp_path, text))


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        hourly_table(tmp_path / "gone.csv")


@pytest.mark.parametrize("evidence", [{}, {"energy": None}, {"energy": {"hours": [["x", 1]]}}])
def test_evidence_without_energy_gives_no_emissions(evidence: dict[str, object]) -> None:
    with pytest.raises(DataError, match="no energy"):
        hours_of(evidence)
    with pytest.raises(DataError, match="no energy"):
        energy_of(evidence)
