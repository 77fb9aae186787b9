"""Emission factors of the user's own: checked before they are used, used before the shipped ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlflow_carbon.carbon.intensity import factor_for
from mlflow_carbon.carbon.own import load, own_factors
from mlflow_carbon.carbon.region import find_region
from mlflow_carbon.cli.factors import command
from mlflow_carbon.errors import CarbonError, DataError
from mlflow_carbon.settings import Settings

HEADER = "code,name,year,g_per_kwh,low,high,basis,kind,source,license,note\n"
SITE = (
    "SITE-7,Our hydro site,2025,12.5,10,15,lifecycle,average,Meter 7,LicenseRef-own,residual mix\n"
)
FRANCE = "FR,France (ours),2026,30,,,direct,,RTE,CC-BY-4.0,\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "ours.csv"
    path.write_text(HEADER + SITE + FRANCE)
    return path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_site_of_ones_own_can_be_the_region(table: Path) -> None:
    settings = Settings(region="SITE-7", factor_table=table)
    factor = factor_for(find_region(settings), own_factors(settings))
    assert (factor.g_per_kwh.low, factor.g_per_kwh.mid, factor.g_per_kwh.high) == (10, 12.5, 15)
    assert (factor.source, factor.license, factor.year) == ("Meter 7", "LicenseRef-own", 2025)
    assert factor.table == "ours.csv"
    assert factor.note == "residual mix"


def test_ones_own_factor_comes_before_the_shipped_one_of_the_same_place(table: Path) -> None:
    settings = Settings(region="FR", factor_table=table)
    factor = factor_for(find_region(settings), own_factors(settings))
    assert (factor.g_per_kwh.mid, factor.basis) == (30, "direct")
    assert factor.spread == "none given in the table"


def test_places_that_are_not_in_ones_own_table_keep_the_shipped_factor(table: Path) -> None:
    settings = Settings(region="DE", factor_table=table)
    factor = factor_for(find_region(settings), own_factors(settings))
    assert factor.source_id == "ember-2026"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: missing columns: code"),
        ("code,g_per_kwh\nFR,1\n", ":1: missing columns: name"),
        (HEADER.replace("note", "nota"), "unknown columns: nota"),
        (HEADER, "holds no row"),
        (HEADER + FRANCE + FRANCE, ":3: FR is there twice"),
        (HEADER + FRANCE.replace(",30,", ",-1,"), ":2: g_per_kwh '-1' must be a number"),
        (HEADER + FRANCE.replace(",30,", ",nan,"), ":2: g_per_kwh 'nan' must be a number"),
        (HEADER + FRANCE.replace(",30,", ",30000,"), ":2: g_per_kwh '30000' must be"),
        (HEADER + SITE.replace(",10,15,", ",13,15,"), ":2: low, g_per_kwh and high must not"),
        (HEADER + FRANCE.replace("direct", "market"), ":2: basis 'market' must be"),
        (HEADER + FRANCE.replace("RTE", ""), ":2: source is empty"),
        (HEADER + FRANCE.replace("CC-BY-4.0", " "), ":2: license is empty"),
        (HEADER + FRANCE.replace("2026", "26"), ":2: year '26' is not a year"),
        (HEADER + FRANCE.replace("FR,", "F R,"), ":2: code 'F R'"),
        (HEADER + FRANCE.replace("RTE", "R\x1b[31mTE"), ":2: holds a control character"),
        (HEADER + "FR,France\n", ":2: has more or fewer cells"),
        (HEADER + FRANCE.strip() + ",more\n", ":2: has more or fewer cells"),
        (HEADER + '"FR', "is not a CSV file"),
    ],
)
def test_a_damaged_table_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "damaged.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        load(path)
    assert message in str(refused.value)


def test_every_problem_of_a_table_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "damaged.csv"
    path.write_text(HEADER + FRANCE.replace("2026", "x").replace("RTE", "") + "FR\n")
    with pytest.raises(DataError) as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 3


def test_a_damaged_table_never_stops_training_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert own_factors(Settings(factor_table=tmp_path / "gone.csv")) == {}
    assert "gone.csv: cannot be read" in caplog.text


def test_show_says_what_a_factor_means_and_where_it_is_from() -> None:
    text = call("show", "FR").output
    assert "41.44 gCO2e/kWh" in text
    assert "lifecycle, annual average, location-based" in text
    assert "Our World in Data" in text


def test_show_without_a_place_is_this_machine_in_json_too() -> None:
    factor = json.loads(call("show", "--json").output)
    assert factor["region_reason"]
    assert factor["g_per_kwh"]["low"] < factor["g_per_kwh"]["high"]


def test_show_sources_names_every_attribution() -> None:
    entries = json.loads(call("show", "--sources", "--json").output)
    assert all(entry["attribution"] and entry["license"] for entry in entries)
    assert "CC BY 4.0" in call("show", "--sources").output


def test_an_unknown_place_is_refused_with_what_there_is() -> None:
    result = call("show", "Narnia")
    assert isinstance(result.exception, DataError)
    assert "aws/eu-west-3" in str(result.exception)


def test_check_says_what_is_wrong_and_import_keeps_nothing_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("code\n")
    for name in ("check", "import"):
        assert isinstance(call(name, str(damaged)).exception, DataError)
    assert not (tmp_path / "data").exists()


def test_an_imported_table_is_used_from_then_on(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "2 factors" in call("check", str(table)).output
    assert "12.5" not in call("show", "FR").output
    assert call("import", str(table)).exit_code == 0
    assert "12.5 gCO2e/kWh" in call("show", "SITE-7").output


def test_import_is_refused_where_a_setting_would_hide_it(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_CARBON_FACTOR_TABLE", str(table))
    result = call("import", str(table))
    assert isinstance(result.exception, CarbonError)
    assert "factor_table is set" in str(result.exception)


def test_a_folder_that_cannot_be_written_is_told(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    result = call("import", str(table))
    assert "cannot be written" in str(result.exception)
