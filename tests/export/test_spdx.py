"""SPDX 3.0.1, read back by the bindings generated from its own model."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from spdx_python_model import v3_0_1 as spdx3

from mlflow_carbon.export.record import ModelRecord
from mlflow_carbon.export.spdx import render


def objects(record: ModelRecord, made_at: datetime) -> Any:
    found = spdx3.SHACLObjectSet()
    spdx3.JSONLDDeserializer().read(io.BytesIO(render(record, made_at).encode()), found)
    assert not found.missing_ids
    return found


def one(found: Any, kind: Any) -> Any:
    (only,) = found.foreach_type(kind)
    return only


def test_energy_is_in_kilowatt_hours(record: ModelRecord, made_at: datetime) -> None:
    model = one(objects(record, made_at), spdx3.ai_AIPackage)
    (quantity,) = model.ai_energyConsumption.ai_trainingEnergyConsumption
    assert Decimal(str(quantity.ai_energyQuantity)) == Decimal("3.0")
    assert quantity.ai_energyUnit == spdx3.ai_EnergyUnitType.kilowattHour


def test_evaluation_is_not_passed_off_as_inference(record: ModelRecord, made_at: datetime) -> None:
    energy = one(objects(record, made_at), spdx3.ai_AIPackage).ai_energyConsumption
    assert len(energy.ai_inferenceEnergyConsumption) == 0


def test_the_model_says_what_it_was_trained_and_tested_on(
    record: ModelRecord, made_at: datetime
) -> None:
    found = objects(record, made_at)
    names = {package.name for package in found.foreach_type(spdx3.dataset_DatasetPackage)}
    kinds = {r.relationshipType for r in found.foreach_type(spdx3.Relationship)}
    assert names == {"applicants", "held out"}
    assert spdx3.RelationshipType.trainedOn in kinds
    assert spdx3.RelationshipType.testedOn in kinds


def test_licenses_are_expressions(record: ModelRecord, made_at: datetime) -> None:
    found = objects(record, made_at)
    licenses = {
        one.simplelicensing_licenseExpression
        for one in found.foreach_type(spdx3.simplelicensing_LicenseExpression)
    }
    assert licenses == {"CC-BY-4.0", "Apache-2.0"}


def test_declared_personal_data_is_told_and_undeclared_is_left_open(
    record: ModelRecord, made_at: datetime
) -> None:
    found = objects(record, made_at)
    by_name = {p.name: p for p in found.foreach_type(spdx3.dataset_DatasetPackage)}
    presence = by_name["applicants"].dataset_hasSensitivePersonalInformation
    assert presence == spdx3.PresenceType.yes
    assert by_name["held out"].dataset_hasSensitivePersonalInformation is None


def test_a_profile_is_claimed_only_with_every_field_it_requires(
    record: ModelRecord, bare: ModelRecord, made_at: datetime
) -> None:
    def profiles(version: ModelRecord) -> list[str]:
        document = one(objects(version, made_at), spdx3.SpdxDocument)
        return [profile.rpartition("/")[2] for profile in document.profileConformance]

    assert "ai" in profiles(record)
    assert "ai" not in profiles(bare)
    assert "dataset" not in profiles(record)


def test_a_lower_bound_is_told(record: ModelRecord, made_at: datetime) -> None:
    phase = replace(record.phases["training"], unmeasured_runs=2)
    model = one(objects(replace(record, phases={"training": phase}), made_at), spdx3.ai_AIPackage)
    assert "lower bound" in model.ai_informationAboutTraining


def test_a_hostile_version_is_plain_text(hostile: ModelRecord, made_at: datetime) -> None:
    objects(hostile, made_at)
    assert "\u202e" not in render(hostile, made_at)


def test_every_element_of_the_document_is_in_the_graph(
    record: ModelRecord, made_at: datetime
) -> None:
    graph = json.loads(render(record, made_at))["@graph"]
    ids = [element["spdxId"] for element in graph if "spdxId" in element]
    assert len(ids) == len(set(ids))
    assert set(graph[1]["element"]) | {graph[1]["spdxId"]} == set(ids)
