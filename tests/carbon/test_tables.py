"""The shipped tables are whole: keys, ranges, cross references, and the license of every row."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from mlflow_carbon.carbon import tables

KEYS = {
    "cloud_regions": ("provider", "region"),
    "cpu_arch_cloud": ("provider", "cpu_architecture"),
    "dram_power": ("model",),
    "embodied": ("key",),
    "grid_country": ("code", "year"),
    "grid_subnational": ("code",),
    "grid_world": ("code",),
    "hardware_cpu": ("name",),
    "hardware_gpu": ("name",),
    "lifetime": ("key",),
    "pue": ("provider", "scope", "year"),
    "timezones": ("timezone",),
}
USABLE = {"Apache-2.0", "CC-BY-4.0", "LicenseRef-public-domain", "MIT"}
MIT_ROWS_BY_THEIR_CARRIER = {"ca-mix-2023"}


def test_every_table_has_a_key_that_this_test_checks() -> None:
    assert set(tables.names()) == set(KEYS)


@pytest.mark.parametrize("table", KEYS)
def test_keys_are_given_and_unique(table: str) -> None:
    keys = [tuple(row[column] for column in KEYS[table]) for row in tables.rows(table)]
    assert keys
    assert all(all(key) for key in keys)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("table", KEYS)
def test_every_row_names_source_year_and_a_license_we_may_pass_on(table: str) -> None:
    for row in tables.rows(table):
        assert row["source_id"] in tables.sources(), row
        assert row["license"] in USABLE, row
        assert row["license"] == tables.sources()[row["source_id"]].license, row
        assert re.fullmatch(r"20\d\d", row["year"]), row


def test_every_source_is_used_usable_and_attributed() -> None:
    used = {row["source_id"] for name in KEYS for row in tables.rows(name)}
    assert used == set(tables.sources())
    for source in tables.sources().values():
        assert source.license in USABLE
        assert source.title
        assert source.attribution
        assert source.url


def test_the_notice_names_everybody_whose_figures_we_ship() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    names = ("Ember", "Our World in Data", "EPA", "CodeCarbon", "Google", "Amazon", "IPCC")
    others = ("Cloud Carbon Footprint", "carbontracker", "Green Algorithms", "IANA", "China")
    assert [name for name in names + others if name not in notice] == []


def test_no_row_is_from_a_share_alike_or_unlicensed_source() -> None:
    for name in KEYS:
        for row in tables.rows(name):
            text = " ".join(row.values()).lower()
            assert not re.search(r"odbl|electricity maps|boavizta|cornerstone|watttime", text), row


@pytest.mark.parametrize("table", ["grid_country", "grid_subnational", "grid_world"])
def test_grid_factors_are_plausible(table: str) -> None:
    for row in tables.rows(table):
        assert 0 < float(row["g_per_kwh"]) <= 1400, row


def test_countries_have_no_gap_between_their_years() -> None:
    for _, group in itertools.groupby(tables.rows("grid_country"), key=lambda row: row["code"]):
        years = [int(row["year"]) for row in group]
        assert years == list(range(years[0], years[0] + len(years)))
        assert years[-1] >= 2022


def test_cloud_regions_point_to_places_with_a_factor() -> None:
    countries = {row["code"] for row in tables.rows("grid_country")}
    areas = {row["code"] for row in tables.rows("grid_subnational")}
    for row in tables.rows("cloud_regions"):
        assert row["country"] in countries, row
        assert not row["subdivision"] or row["subdivision"] in areas, row
        assert row["subdivision"].partition("-")[0] in ("", row["country"]), row
        if row["provider_g_per_kwh"]:
            assert 0 < float(row["provider_g_per_kwh"]) < 1400


def test_time_zone_aliases_never_lead_to_another_country() -> None:
    zones = {row["timezone"]: row["country"] for row in tables.rows("timezones")}
    # Old names of shared zones: the database points them to a neighbour's zone.
    assert not {"Iceland", "Atlantic/Jan_Mayen", "Africa/Timbuktu", "Africa/Asmera"} & set(zones)
    assert zones["Europe/Oslo"] == "NO"
    assert zones["Africa/Windhoek"] == "NA"  # Namibia, not "not available"
    assert "UTC" not in zones


def test_hardware_powers_are_plausible() -> None:
    assert all(0.5 <= float(row["tdp_w"]) <= 1500 for row in tables.rows("hardware_cpu"))
    assert all(5 <= float(row["tdp_w"]) <= 2500 for row in tables.rows("hardware_gpu"))
    for row in tables.rows("cpu_arch_cloud"):
        assert 0 < float(row["min_w_per_vcpu"]) <= float(row["max_w_per_vcpu"]) < 20


def test_pue_and_lifetime_are_plausible() -> None:
    assert all(1.0 <= float(row["pue"]) <= 2.0 for row in tables.rows("pue"))
    assert all(1 <= float(row["years"]) <= 10 for row in tables.rows("lifetime"))
