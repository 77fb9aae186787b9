"""The factor of a place, and what it says about itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from statistics import quantiles

import pytest

from mlflow_carbon import resources
from mlflow_carbon.carbon import tables
from mlflow_carbon.carbon.intensity import YEAR_TO_YEAR, factor_for, latest_of_countries, years_of
from mlflow_carbon.carbon.region import WORLD, Region, parse_region


def test_a_country_gets_its_latest_year_and_the_spread_of_five() -> None:
    factor = factor_for(parse_region("FR"))
    assert (factor.region, factor.year, factor.basis) == ("FR", 2025, "lifecycle")
    assert factor.g_per_kwh.mid == 41.44
    assert factor.g_per_kwh.low == pytest.approx(41.44 * 0.825)
    assert factor.g_per_kwh.high == 78.54  # 2022, the year of the reactor outages
    assert "2021 to 2025" in factor.spread


def test_the_factor_names_source_license_and_the_exact_table() -> None:
    factor = factor_for(parse_region("DE"))
    file = resources.carbon_data() / factor.table
    assert factor.table_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert factor.license == "CC-BY-4.0"
    assert "Ember" in factor.source
    assert factor.basis_text == "lifecycle, annual average, location-based"


def test_the_world_has_the_spread_of_countries() -> None:
    factor = factor_for(Region(WORLD, "World", "unknown", "nothing says where"))
    assert factor.region == WORLD
    assert factor.g_per_kwh.mid == 458.29
    latest = latest_of_countries()
    inside = sum(factor.g_per_kwh.low <= value <= factor.g_per_kwh.high for value in latest)
    assert 0.94 <= inside / len(latest) <= 0.96


def test_a_country_without_a_factor_gets_the_world_and_says_so() -> None:
    factor = factor_for(Region("AD", "Andorra", "guess", "time zone Europe/Andorra"))
    assert factor.region == WORLD
    assert "no published factor for Andorra" in factor.region_reason


def test_a_us_state_is_direct_emissions_and_labelled_so() -> None:
    factor = factor_for(parse_region("US-WV"))
    assert factor.g_per_kwh.mid > 800
    assert factor.basis == "direct"


def test_a_chinese_province_is_co2_only_and_says_so() -> None:
    assert "CO2 only" in factor_for(parse_region("CN-BJ")).basis_text


def test_a_canadian_province_reaches_up_to_the_country_because_imports_are_ignored() -> None:
    factor = factor_for(parse_region("CA-MB"))
    country = factor_for(parse_region("CA"))
    assert factor.g_per_kwh.mid == 27.6
    assert factor.g_per_kwh.high == country.g_per_kwh.mid


def test_a_google_region_uses_what_google_publishes_for_it() -> None:
    factor = factor_for(parse_region("gcp/europe-west9"))
    assert factor.g_per_kwh.mid == 16.3
    assert factor.basis == "direct"
    assert factor.region == "gcp/europe-west9"


def test_an_aws_region_uses_its_state() -> None:
    assert factor_for(parse_region("aws/us-east-1")).region == "US-VA"


@pytest.mark.parametrize("row", [*tables.rows("cloud_regions")], ids=lambda row: row["region"])
def test_every_cloud_region_has_a_factor_of_its_own_place(row: tables.Row) -> None:
    factor = factor_for(parse_region(f"{row['provider']}/{row['region']}"))
    assert factor.region != WORLD
    assert row["country"] in (factor.region[:2], row["country"] if "/" in factor.region else "")


def test_the_least_half_width_is_what_our_own_table_shows_from_year_to_year() -> None:
    changes = []
    for code in {row["code"] for row in tables.rows("grid_country")}:
        values = {int(row["year"]): row for row in years_of(code) if row["flag"] != "tiny_grid"}
        for year in range(2016, 2025):
            if year in values and year + 1 in values:
                before, after = (float(values[y]["g_per_kwh"]) for y in (year, year + 1))
                changes.append(abs(after - before) / before)
    assert quantiles(changes, n=10)[8] == pytest.approx(YEAR_TO_YEAR, abs=0.005)


def test_reading_the_tables_loads_neither_pandas_nor_numpy() -> None:
    code = (
        "import sys; from mlflow_carbon.carbon.intensity import factor_for;"
        "from mlflow_carbon.carbon.region import find_region;"
        "from mlflow_carbon.carbon.emissions import emissions_g;"
        "from mlflow_carbon.settings import Settings; factor_for(find_region(Settings()));"
        "print(sorted({'pandas', 'numpy', 'mlflow', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
