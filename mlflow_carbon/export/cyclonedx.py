"""CycloneDX 1.6 or 1.7 ML-BOM (JSON). Its units are fixed: kWh and tonnes of CO2e."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mlflow_carbon import __version__
from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.export.record import EVALUATION, TRAINING, Dataset, ModelRecord, Phase
from mlflow_carbon.export.shown import identifier, rounded, to_json
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import Range, kwh

G_PER_TONNE = 1e6

_ACTIVITIES = {TRAINING: "training", EVALUATION: "validation"}


def render(record: ModelRecord, made_at: datetime, *, spec: str = "1.6") -> str:
    """The document. An energy provider is mandatory there; nobody attested one, so it is ``unknown``."""
    return to_json(_document(record, made_at, spec))


def _document(record: ModelRecord, made_at: datetime, spec: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model-{identifier(record, 'model')}",
        "name": record.name,
        "version": record.version,
        "modelCard": _card(record),
    }
    if record.description:
        component["description"] = record.description
    if record.license and normalized(record.license) != NOT_KNOWN:
        component["licenses"] = [{"expression": normalized(record.license)}]
    if record.owner:
        component["supplier"] = {"name": record.owner}
    if url := _iri(record.source):
        component["externalReferences"] = [
            {"type": "other", "url": url, "comment": "source in the model registry"}
        ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "serialNumber": f"urn:uuid:{identifier(record, 'cyclonedx')}",
        "version": 1,
        "metadata": {
            "timestamp": made_at.isoformat(timespec="seconds"),
            "tools": {
                "components": [
                    {"type": "application", "name": "mlflow-carbon", "version": __version__}
                ]
            },
        },
        "components": [component],
    }


def _card(record: ModelRecord) -> dict[str, Any]:
    considerations: dict[str, Any] = {}
    if record.purpose:
        considerations["useCases"] = [record.purpose]
    consumptions = [
        _consumption(record, phase, phase.energy_j)
        for phase in record.phases.values()
        if phase.energy_j is not None
    ]
    if consumptions:
        considerations["environmentalConsiderations"] = {"energyConsumptions": consumptions}
    card: dict[str, Any] = {}
    if record.datasets:
        card["modelParameters"] = {"datasets": [_dataset(one) for one in record.datasets]}
    metrics = {k: v for k, v in sorted(record.metrics.items()) if not k.startswith("carbon/")}
    if metrics:
        card["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {"type": name, "value": repr(value)} for name, value in metrics.items()
            ]
        }
    if considerations:
        card["considerations"] = considerations
    return card


def _consumption(record: ModelRecord, phase: Phase, energy_j: Range) -> dict[str, Any]:
    energy_kwh = rounded(kwh(energy_j.mid))
    properties = {
        "mlflow_carbon:energy_kwh_low": repr(rounded(kwh(energy_j.low))),
        "mlflow_carbon:energy_kwh_high": repr(rounded(kwh(energy_j.high))),
        "mlflow_carbon:method": record.tag(Tag.METHOD),
        "mlflow_carbon:grade": record.tag(Tag.GRADE),
        "mlflow_carbon:runs": str(phase.runs),
        "mlflow_carbon:note": phase.note,
        "mlflow_carbon:factor": record.tag(Tag.FACTOR),
        "mlflow_carbon:factor_source": record.tag(Tag.FACTOR_SOURCE),
        "mlflow_carbon:factor_basis": record.tag(Tag.FACTOR_BASIS),
        "mlflow_carbon:no_emissions": phase.no_emissions,
    }
    found: dict[str, Any] = {
        "activity": _ACTIVITIES[phase.name],
        "energyProviders": [
            {
                "organization": {"name": "unknown"},
                "energySource": "unknown",
                "energyProvided": {"value": energy_kwh, "unit": "kWh"},
            }
        ],
        "activityEnergyCost": {"value": energy_kwh, "unit": "kWh"},
        "properties": [{"name": name, "value": text} for name, text in properties.items() if text],
    }
    if phase.emissions_g is not None:
        tonnes = rounded(phase.emissions_g.mid / G_PER_TONNE)
        found["co2CostEquivalent"] = {"value": tonnes, "unit": "tCO2eq"}
    return found


def _dataset(dataset: Dataset) -> dict[str, Any]:
    properties = {
        "mlflow:digest": dataset.digest,
        "mlflow:context": dataset.context,
        "mlflow_carbon:sha256": dataset.sha256,
        "mlflow_carbon:rows": "" if dataset.rows is None else str(dataset.rows),
        "mlflow_carbon:license": dataset.license,
        "mlflow_carbon:collected": dataset.collected,
        "mlflow_carbon:declared_by": dataset.declared_by,
    }
    contents: dict[str, Any] = {
        "properties": [{"name": k, "value": v} for k, v in properties.items() if v]
    }
    if url := _iri(dataset.origin):
        contents["url"] = url
    found: dict[str, Any] = {"type": "dataset", "name": dataset.name, "contents": contents}
    if dataset.sensitive:
        found["sensitiveData"] = [dataset.sensitive]
    return found


def _iri(text: str) -> str:
    """The text as a reference, or ``""`` when it is none."""
    return quote(text, safe=":/") if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", text) else ""
