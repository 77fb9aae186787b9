"""SPDX 3.0.1 with AI and Dataset packages (JSON-LD). Energy in kilowatt hours; it has no place for CO2."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from mlflow_carbon.datasets.license import normalized
from mlflow_carbon.export.record import TRAINING, Dataset, ModelRecord, Phase, held_out
from mlflow_carbon.export.shown import identifier, rounded, to_json
from mlflow_carbon.units import kwh

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
SPEC_VERSION = "3.0.1"
_INFO = "_:creationinfo"


def render(record: ModelRecord, made_at: datetime) -> str:
    """The document. A profile is claimed only when every field it requires is known."""
    graph = _Graph(record, made_at).elements()
    return to_json({"@context": CONTEXT, "@graph": graph})


class _Graph:
    def __init__(self, record: ModelRecord, made_at: datetime) -> None:
        self._record = record
        self._made_at = made_at

    def elements(self) -> list[dict[str, Any]]:
        model = self._model()
        datasets = [self._dataset(n, one) for n, one in enumerate(self._record.datasets)]
        others = [*self._agents(), *datasets, *self._relations(datasets)]
        document = self._element("SpdxDocument", "document") | {
            "name": f"{self._record.name} version {self._record.version}",
            "profileConformance": self._profiles(model),
            "rootElement": [model["spdxId"]],
            "element": [one["spdxId"] for one in (model, *others)],
        }
        info = {
            "type": "CreationInfo",
            "@id": _INFO,
            "specVersion": SPEC_VERSION,
            "created": _moment(self._made_at),
            "createdBy": [self._id("tool")],
        }
        return [info, document, model, *others]

    def _id(self, what: str) -> str:
        return f"urn:uuid:{identifier(self._record, 'spdx/' + what)}"

    def _element(self, kind: str, what: str) -> dict[str, Any]:
        return {"type": kind, "spdxId": self._id(what), "creationInfo": _INFO}

    def _agents(self) -> list[dict[str, Any]]:
        agents = [self._element("SoftwareAgent", "tool") | {"name": "mlflow-carbon"}]
        if self._record.owner:
            agents.append(self._element("Agent", "owner") | {"name": self._record.owner})
        return agents

    def _profiles(self, model: dict[str, Any]) -> list[str]:
        needed = ("suppliedBy", "software_downloadLocation", "releaseTime")
        profiles = ["core", "software", "simpleLicensing"]
        return [*profiles, "ai"] if all(name in model for name in needed) else profiles

    def _model(self) -> dict[str, Any]:
        record, training = self._record, self._record.phases.get(TRAINING)
        metrics = {k: v for k, v in sorted(record.metrics.items()) if not k.startswith("carbon/")}
        known = {
            "description": record.description,
            "suppliedBy": self._id("owner") if record.owner else "",
            "software_downloadLocation": record.source,
            "releaseTime": _moment(record.created) if record.created is not None else "",
            "ai_informationAboutApplication": record.purpose,
            "ai_informationAboutTraining": training.note if training is not None else "",
            "ai_hyperparameter": [_entry(k, v) for k, v in sorted(record.params.items())],
            "ai_metric": [_entry(k, repr(v)) for k, v in metrics.items()],
            "ai_energyConsumption": _energy(training),
        }
        return {
            **self._element("ai_AIPackage", "model"),
            "name": record.name,
            "software_packageVersion": record.version,
            "software_primaryPurpose": "model",
            **{name: value for name, value in known.items() if value},
        }

    def _dataset(self, position: int, dataset: Dataset) -> dict[str, Any]:
        package = self._element("dataset_DatasetPackage", f"dataset/{position}") | {
            "name": dataset.name,
            "software_primaryPurpose": "data",
            "dataset_datasetType": ["noAssertion"],
        }
        if dataset.sha256:
            # The content in canonical form, not a file: a digest of a file would be misread.
            package["comment"] = f"mlflow-carbon content sha256 {dataset.sha256}"
        if dataset.rows is not None:
            package["dataset_datasetSize"] = dataset.rows
        if dataset.collected:
            package["dataset_dataCollectionProcess"] = f"collected {dataset.collected}"
        if dataset.sensitive:
            none = dataset.sensitive.strip().lower() in ("none", "no")
            package["dataset_hasSensitivePersonalInformation"] = "no" if none else "yes"
        if dataset.origin.startswith(("http://", "https://")):
            package["software_downloadLocation"] = dataset.origin
        return package

    def _relations(self, datasets: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for position, (package, dataset) in enumerate(
            zip(datasets, self._record.datasets, strict=True)
        ):
            kind = "testedOn" if held_out(dataset) else "trainedOn"
            found.append(
                self._relation(f"uses/{position}", self._id("model"), kind, package["spdxId"])
            )
            if dataset.license:
                found += self._license(f"dataset/{position}", package["spdxId"], dataset.license)
        if self._record.license:
            found += self._license("model", self._id("model"), normalized(self._record.license))
        return found

    def _license(self, what: str, of: str, expression: str) -> list[dict[str, Any]]:
        license_ = self._element("simplelicensing_LicenseExpression", f"license/{what}") | {
            "simplelicensing_licenseExpression": expression
        }
        relation = self._relation(f"licensed/{what}", of, "hasDeclaredLicense", license_["spdxId"])
        return [license_, relation]

    def _relation(self, what: str, of: str, kind: str, to: str) -> dict[str, Any]:
        return self._element("Relationship", f"relation/{what}") | {
            "from": of,
            "relationshipType": kind,
            "to": [to],
        }


def _energy(phase: Phase | None) -> dict[str, Any]:
    """Of training; evaluation runs are neither fine-tuning nor inference in use, and have no place."""
    if phase is None or phase.energy_j is None:
        return {}
    quantity = {
        "type": "ai_EnergyConsumptionDescription",
        "ai_energyQuantity": rounded(kwh(phase.energy_j.mid)),
        "ai_energyUnit": "kilowattHour",
    }
    return {"type": "ai_EnergyConsumption", "ai_trainingEnergyConsumption": [quantity]}


def _entry(key: str, value: str) -> dict[str, str]:
    return {"type": "DictionaryEntry", "key": key, "value": value}


def _moment(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
