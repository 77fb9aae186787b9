"""CycloneDX, checked by the strict schema of its own library."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mlflow_carbon.export.cyclonedx import render
from mlflow_carbon.export.record import ModelRecord

SPECS = {"1.6": SchemaVersion.V1_6, "1.7": SchemaVersion.V1_7}


def document(record: ModelRecord, made_at: datetime, spec: str = "1.6") -> dict[str, Any]:
    text = render(record, made_at, spec=spec)
    assert JsonStrictValidator(SPECS[spec]).validate_str(text) is None
    return json.loads(text)


def consumptions(found: dict[str, Any]) -> list[dict[str, Any]]:
    considerations = found["components"][0]["modelCard"]["considerations"]
    return considerations["environmentalConsiderations"]["energyConsumptions"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_document_follows_the_schema(record: ModelRecord, made_at: datetime, spec: str) -> None:
    assert document(record, made_at, spec)["specVersion"] == spec


@pytest.mark.parametrize("spec", SPECS)
def test_a_bare_and_a_hostile_version_follow_the_schema_too(
    bare: ModelRecord, hostile: ModelRecord, made_at: datetime, spec: str
) -> None:
    assert "considerations" not in document(bare, made_at, spec)["components"][0]["modelCard"]
    document(hostile, made_at, spec)


def test_energy_is_in_kwh_and_emissions_in_tonnes(record: ModelRecord, made_at: datetime) -> None:
    training, validation = consumptions(document(record, made_at))
    assert training["activity"] == "training"
    assert training["activityEnergyCost"] == {"value": 3.0, "unit": "kWh"}
    assert training["co2CostEquivalent"] == {"value": 0.0012, "unit": "tCO2eq"}
    assert validation["activity"] == "validation"
    assert validation["activityEnergyCost"]["value"] == 0.1


def test_the_provider_of_energy_is_unknown_rather_than_guessed(
    record: ModelRecord, made_at: datetime
) -> None:
    (provider,) = consumptions(document(record, made_at))[0]["energyProviders"]
    assert provider["organization"] == {"name": "unknown"}
    assert provider["energySource"] == "unknown"


def test_a_lower_bound_is_told_and_missing_emissions_are_left_out(
    record: ModelRecord, made_at: datetime
) -> None:
    phase = replace(
        record.phases["training"], unmeasured_runs=2, emissions_g=None, no_emissions="mixed bases"
    )
    (found,) = consumptions(document(replace(record, phases={"training": phase}), made_at))
    properties = {one["name"]: one["value"] for one in found["properties"]}
    assert properties["mlflow_carbon:note"].startswith("lower bound: 2 of 5")
    assert properties["mlflow_carbon:no_emissions"] == "mixed bases"
    assert "co2CostEquivalent" not in found


def test_datasets_carry_their_content_hash_and_license(
    record: ModelRecord, made_at: datetime
) -> None:
    card = document(record, made_at)["components"][0]["modelCard"]
    first, second = card["modelParameters"]["datasets"]
    properties = {one["name"]: one["value"] for one in first["contents"]["properties"]}
    assert properties["mlflow_carbon:sha256"] == "b" * 64
    assert properties["mlflow_carbon:license"] == "CC-BY-4.0"
    assert first["sensitiveData"] == ["age, income"]
    assert "sensitiveData" not in second


def test_the_same_version_gives_the_same_document(record: ModelRecord, made_at: datetime) -> None:
    assert render(record, made_at) == render(record, made_at)
    other = replace(record, version="4")
    assert document(other, made_at)["serialNumber"] != document(record, made_at)["serialNumber"]
