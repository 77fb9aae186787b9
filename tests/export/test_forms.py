"""The GPAI form, BoAmps, Croissant and SCI: units, and what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import mlcroissant
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.carbon.sci import S_PER_YEAR, Hardware
from mlflow_carbon.errors import DataError
from mlflow_carbon.export import boamps, croissant, gpai, sci
from mlflow_carbon.export.record import ModelRecord
from mlflow_carbon.export.shown import two_digits
from mlflow_carbon.units import Range


def form(record: ModelRecord, made_at: datetime) -> dict[str, Any]:
    return json.loads(gpai.render(record, made_at))


def test_the_form_has_energy_in_mwh_with_two_significant_figures(
    record: ModelRecord, made_at: datetime
) -> None:
    fields = form(record, made_at)["fields"]
    assert fields["training_energy_mwh"] == "0.0030"
    assert fields["training_time_days"] == "0.50"
    assert fields["training_compute_flop"] == "3.2e+21"
    assert fields["training_compute_order_of_magnitude"] == "1e22"
    assert fields["total_parameters"] == "1200000"


def test_held_out_data_is_not_called_training_data(record: ModelRecord, made_at: datetime) -> None:
    fields = form(record, made_at)["fields"]
    assert [one["name"] for one in fields["training_data"]] == ["applicants"]
    assert [one["name"] for one in fields["evaluation_data"]] == ["held out"]


def test_the_form_lists_what_no_record_says(bare: ModelRecord, made_at: datetime) -> None:
    found = form(bare, made_at)
    assert {"training_energy_mwh", "training_data", "license"} <= set(found["not_on_record"])
    assert found["fields"]["training_energy_mwh"] is None


def test_the_form_has_no_energy_where_runs_were_not_measured(
    record: ModelRecord, made_at: datetime
) -> None:
    phase = replace(record.phases["training"], unmeasured_runs=1)
    fields = form(replace(record, phases={"training": phase}), made_at)["fields"]
    assert fields["training_energy_mwh"] is None
    assert "lower bound: 1 of 5" in fields["training_energy_method"]


def test_the_method_is_told_in_about_a_hundred_words(
    record: ModelRecord, made_at: datetime
) -> None:
    words = form(record, made_at)["fields"]["training_energy_method"].split()
    assert 40 <= len(words) <= 110


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.003, "0.0030"),
        (0.00123, "0.0012"),
        (1.0, "1.0"),
        (0.5, "0.50"),
        (12.0, "12"),
        (3.14159, "3.1"),
        (1234567.0, "1200000"),
        (99.9, "100"),
        (0.0999, "0.10"),
    ],
)
def test_two_significant_figures(value: float, text: str) -> None:
    assert two_digits(value) == text


@given(st.floats(1e-9, 1e15))
def test_two_significant_figures_are_never_off_by_more_than_half_a_step(value: float) -> None:
    text = two_digits(value)
    assert float(text) == pytest.approx(value, rel=0.051)
    assert len(text.replace(".", "").strip("0")) <= 2
    assert "e" not in text


def report(record: ModelRecord, made_at: datetime) -> dict[str, Any]:
    return json.loads(boamps.render(record, made_at))


def test_boamps_has_energy_in_kwh_and_time_in_seconds(
    record: ModelRecord, made_at: datetime
) -> None:
    found = report(record, made_at)
    (measure,) = found["measures"]
    assert measure["powerConsumption"] == 3.0
    assert measure["measurementDuration"] == 43_200.0
    assert measure["measurementDateTime"] == "2026-11-20 08:30:00"
    assert (measure["cpuTrackingMode"], measure["gpuTrackingMode"]) == ("counter", "sampled")
    assert found["environment"] == {
        "country": "France",
        "location": "FR",
        "powerSourceCarbonIntensity": 41.44,
    }


BOAMPS = jsonschema.Draft7Validator(
    json.loads((Path(__file__).parent / "schemas" / "boamps.json").read_text())
)


def test_boamps_follows_its_data_model_whatever_is_on_record(
    record: ModelRecord, hostile: ModelRecord, made_at: datetime
) -> None:
    anonymous = replace(record, tags={}, params={}, metrics={}, owner="", description="")
    for one in (record, hostile, anonymous):
        BOAMPS.validate(report(one, made_at))
    wrong = report(record, made_at)
    wrong["measures"][0]["powerConsumption"] = "3 kWh"
    assert not BOAMPS.is_valid(wrong)


@pytest.mark.parametrize(
    ("error", "word"), [(0.05, "high"), (0.2, "medium"), (0.4, "low"), (0.9, None)]
)
def test_boamps_quality_is_the_width_of_the_range(
    record: ModelRecord, made_at: datetime, error: float, word: str | None
) -> None:
    energy = Range(1e6 * (1 - error), 1e6, 1e6 * (1 + error))
    phase = replace(record.phases["training"], energy_j=energy)
    found = report(replace(record, phases={"training": phase}), made_at)
    assert found.get("quality") == word


def test_boamps_is_refused_where_it_would_have_to_be_invented(
    record: ModelRecord, bare: ModelRecord, made_at: datetime
) -> None:
    with pytest.raises(DataError, match="no energy is on record"):
        boamps.render(bare, made_at)
    with pytest.raises(DataError, match="no dataset is on record"):
        boamps.render(replace(record, datasets=()), made_at)


def test_croissant_is_read_by_its_own_library(
    record: ModelRecord, made_at: datetime, tmp_path: Path
) -> None:
    path = tmp_path / "croissant.json"
    path.write_text(croissant.render(record, made_at, dataset="applicants"))
    metadata = mlcroissant.Dataset(jsonld=str(path)).metadata
    assert metadata.name == "applicants"
    assert metadata.license == ["CC-BY-4.0"]
    assert metadata.url == "https://example.org/applicants"
    assert "2023-01-01 to 2023-12-31" in str(metadata.data_collection)
    assert "age, income" in str(metadata.personal_sensitive_information)
    assert "b" * 64 in metadata.description


def test_croissant_asks_which_dataset(
    record: ModelRecord, bare: ModelRecord, made_at: datetime
) -> None:
    with pytest.raises(DataError, match="applicants, held out"):
        croissant.render(record, made_at)
    with pytest.raises(DataError, match="no dataset is on record"):
        croissant.render(bare, made_at)
    only = replace(record, datasets=record.datasets[:1])
    assert json.loads(croissant.render(only, made_at))["name"] == "applicants"


def test_hostile_texts_stay_text_in_every_form(hostile: ModelRecord, made_at: datetime) -> None:
    phase = hostile.phases["training"]
    for content in (
        gpai.render(hostile, made_at),
        boamps.render(replace(hostile, phases={"training": phase}), made_at),
        croissant.render(hostile, made_at),
        sci.render(hostile, made_at, sci.Inputs()),
    ):
        json.loads(content)
        assert "\u202e" not in content
        assert "\\u0000" not in content


HARDWARE = Hardware(embodied_g=Range.exactly(1e6), lifetime_s=S_PER_YEAR, share=0.5)


def score(record: ModelRecord, made_at: datetime, **inputs: Any) -> dict[str, Any]:
    return json.loads(sci.render(record, made_at, sci.Inputs(**inputs)))


def test_sci_is_grams_per_declared_unit_of_all_reserved_energy(
    record: ModelRecord, made_at: datetime
) -> None:
    found = score(record, made_at, units=1000, unit="prediction", hardware=HARDWARE, pue=1.5)
    operational = 4.1 * (1240.0 / 3.1) * 1.5  # boundary kWh, effective gCO2e/kWh, PUE
    embodied = 1e6 * (43_260.0 / S_PER_YEAR) * 0.5
    assert found["operational_g"]["mid"] == pytest.approx(operational)
    assert found["embodied_g"]["mid"] == pytest.approx(embodied, rel=1e-5)
    assert found["sci"]["mid"] == pytest.approx((operational + embodied) / 1000, rel=1e-5)
    assert found["sci_unit"] == "gCO2e per prediction"
    assert found["missing"] == []
    assert found["runs"] == {
        "all": 6,
        "nested": 4,
        "failed": 1,
        "evaluation": 1,
        "unmeasured": 0,
    }


def test_sci_without_a_unit_is_null_with_a_reason_and_never_per_one(
    record: ModelRecord, made_at: datetime
) -> None:
    found = score(record, made_at, hardware=HARDWARE)
    assert found["sci"] is None
    assert found["missing"][0].startswith("R:")
    assert found["operational_g"] is not None


def test_sci_without_embodied_emissions_is_null_with_a_reason(
    record: ModelRecord, made_at: datetime
) -> None:
    found = score(record, made_at, units=1, unit="epoch")
    assert found["sci"] is None
    assert found["embodied_g"] is None
    assert found["missing"][0].startswith("TE:")


def test_sci_of_unmeasured_runs_is_null_with_a_reason(
    record: ModelRecord, made_at: datetime
) -> None:
    found = score(
        replace(record, whole=replace(record.whole, unmeasured_runs=1)), made_at,
        units=1, unit="epoch", hardware=HARDWARE,
    )  # fmt: skip
    assert found["sci"] is None
    assert "lower bound" in found["missing"][0]


def test_without_a_pue_the_buildings_share_is_said_to_be_missing(
    record: ModelRecord, made_at: datetime
) -> None:
    found = score(record, made_at)
    assert found["pue"] is None
    assert "not set" in found["pue_note"]
    tagged = replace(record, tags=record.tags | {"mlflow_carbon.pue": "1.2"})
    assert score(tagged, made_at)["pue"] == 1.2


def test_water_and_cost_are_of_the_same_boundary(record: ModelRecord, made_at: datetime) -> None:
    found = score(
        record, made_at, pue=1.5, water_site_l_per_kwh=2.0, water_grid_l_per_kwh=3.0,
        price_per_kwh=0.25, currency="EUR",
    )  # fmt: skip
    assert found["energy_kwh"] == 6.15
    assert found["water_l"] == pytest.approx(4.1 * 2.0 + 6.15 * 3.0)
    assert found["cost"] == {"amount": 1.5375, "currency": "EUR"}
    assert score(record, made_at, water_site_l_per_kwh=2.0)["water_note"] == "only on the site"
    assert "water_l" not in score(record, made_at)
