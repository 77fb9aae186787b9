"""A BoAmps energy report (JSON). Energy in kWh, time in seconds, accuracy from 0 to 1.

Written after the published data model (report, algorithm, dataset, hardware of 2026); fields it
requires and nobody recorded say ``unknown`` or ``other``, its own words for that.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from mlflow_carbon.carbon.region import place_names
from mlflow_carbon.errors import DataError
from mlflow_carbon.export.record import EVALUATION, TRAINING, Dataset, ModelRecord, Phase
from mlflow_carbon.export.shown import identifier, rounded, to_json
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import Range, kwh

_STAGES = {TRAINING: "training", EVALUATION: "inference"}
_QUALITIES = ((0.10, "high"), (0.25, "medium"), (0.50, "low"))
"""Largest relative error -> BoAmps' word for it."""


def render(record: ModelRecord, made_at: datetime) -> str:
    """The report on the training phase.

    Raises:
        DataError: no energy or no dataset is on record; the format cannot be without them.
    """
    phase = record.phases.get(TRAINING)
    if phase is None or phase.energy_j is None:
        raise DataError(
            f"{record.key}: no energy is on record, and a BoAmps report needs a measure. "
            "Train with mlflow-carbon installed."
        )
    if not record.datasets:
        raise DataError(
            f"{record.key}: no dataset is on record, and a BoAmps report needs one. "
            "Log it with mlflow.log_input."
        )
    return to_json(_report(record, phase, phase.energy_j, made_at))


def _report(
    record: ModelRecord, phase: Phase, energy_j: Range, made_at: datetime
) -> dict[str, Any]:
    publisher = {"confidentialityLevel": "internal"}
    if record.owner:
        publisher["name"] = record.owner
    if project := record.tag(Tag.PROJECT):
        publisher["projectName"] = project
    report: dict[str, Any] = {
        "header": {
            "reportId": str(identifier(record, "boamps")),
            "reportDatetime": _moment(made_at),
            "reportStatus": "draft",
            "publisher": publisher,
        },
        "task": _task(record, phase),
        "measures": [_measure(record, phase, energy_j, made_at)],
        "software": {"language": "python"},
        "infrastructure": {
            "infraType": "publicCloud" if "/" in record.tag(Tag.REGION) else "other",
            "components": [_component(record)],
        },
        "environment": _environment(record),
    }
    if quality := _quality(energy_j):
        report["quality"] = quality
    return report


def _task(record: ModelRecord, phase: Phase) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskStage": _STAGES[phase.name],
        "taskFamily": record.params.get("task", "") or "unknown",
        "algorithms": [_algorithm(record)],
        "dataset": [_dataset(one) for one in record.datasets],
    }
    accuracy = record.metrics.get("accuracy", record.metrics.get("test_accuracy"))
    if accuracy is not None and 0 <= accuracy <= 1:
        task["measuredAccuracy"] = accuracy
    if record.description:
        task["taskDescription"] = record.description
    return task


def _algorithm(record: ModelRecord) -> dict[str, Any]:
    names = {
        "algorithmName": record.tag("estimator_name"),
        "classPath": record.tag("estimator_class"),
        "optimizer": record.params.get("optimizer", ""),
    }
    found: dict[str, Any] = {name: text for name, text in names.items() if text}
    return found or {"algorithmName": record.name}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {"dataUsage": "input", "dataType": "other"}
    if dataset.rows is not None:
        found["dataQuantity"] = dataset.rows
    if dataset.origin.startswith(("http://", "https://")):
        found["sourceUri"] = dataset.origin
    return found


def _measure(
    record: ModelRecord, phase: Phase, energy_j: Range, made_at: datetime
) -> dict[str, Any]:
    try:
        methods = json.loads(record.tag(Tag.METHODS) or "{}")
    except ValueError:
        methods = {}
    measure: dict[str, Any] = {
        "measurementMethod": "mlflow-carbon",
        "version": record.tag(Tag.VERSION) or "unknown",
        "powerConsumption": rounded(kwh(energy_j.mid)),
        "measurementDateTime": _moment(record.created or made_at),
    }
    for component in ("cpu", "gpu"):
        if isinstance(methods, dict) and isinstance(methods.get(component), str):
            measure[f"{component}TrackingMode"] = methods[component]
    if phase.duration_s is not None:
        measure["measurementDuration"] = rounded(phase.duration_s)
    return measure


def _component(record: ModelRecord) -> dict[str, Any]:
    hardware = record.tag(Tag.HARDWARE)
    name = {"componentName": hardware} if hardware else {}
    return {**name, "componentType": "other", "nbComponent": 1}


def _environment(record: ModelRecord) -> dict[str, Any]:
    region = record.tag(Tag.REGION)
    country = place_names().get(region.partition("-")[0])
    found: dict[str, Any] = {"country": country or "unknown"}
    if region and region != "WORLD":
        found["location"] = region
    with suppress(ValueError):  # no factor, or one that somebody wrote by hand
        found["powerSourceCarbonIntensity"] = float(record.tag(Tag.FACTOR))
    return found


def _quality(energy_j: Range) -> str:
    if not energy_j.mid:
        return ""
    error = max(energy_j.high - energy_j.mid, energy_j.mid - energy_j.low) / energy_j.mid
    return next((word for limit, word in _QUALITIES if error <= limit), "")


def _moment(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
