"""The evidence document of a run: everything that is on record about it, under one SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple

import rfc8785

from mlflow_carbon import __version__, schema
from mlflow_carbon.carbon.emissions import emissions_g
from mlflow_carbon.carbon.hourly import Hour, energy_by_hour
from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.schema import Artifact, Param, Tag
from mlflow_carbon.tracking.facts import (
    Base,
    Facts,
    Json,
    canonical,
    energy_to_json,
    range_to_json,
)
from mlflow_carbon.tracking.provenance import Attachment
from mlflow_carbon.tracking.record import Record, measured_energy


class Seal(NamedTuple):
    """The evidence document and its SHA-256, with the artifact path and the param that name them."""

    path: str
    param: str
    document: bytes
    provenance: Attachment | None = None

    @property
    def sha256(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(self.document).hexdigest()


def with_provenance(record: Record, attached: Attachment | None) -> Record:
    """The record with the tag that names the provenance file."""
    if attached is None:
        return record
    return record._replace(tags={**record.tags, Tag.PROVENANCE_SHA256: attached.sha256})


def seal(
    facts: Facts,
    base: Base,
    record: Record,
    factor: Factor,
    run: Mapping[str, object],
    provenance: Attachment | None = None,
) -> Seal:
    """The evidence document in canonical JSON (RFC 8785), to be named by its SHA-256 in a write-once param.

    ``run`` is the state of the run in MLflow as it was read just before. A resumed run is sealed again
    under the next number; each document names the one before.
    """
    energy = measured_energy(facts)
    total = None if energy is None else energy.attributed_j
    document: Json = {
        "schema": schema.SCHEMA_VERSION,
        "written_by": f"mlflow-carbon {__version__}",
        "run_id": facts.run_id,
        "previous_sha256": base.seal or None,
        "session": {
            "origin": facts.origin.value,
            "opened_at": facts.opened_at,
            "ended_at": facts.ended_at,
            "exit": facts.exit.value if facts.exit else None,
            "unseen_s": facts.unseen_s + base.unseen_s,
            "hardware": facts.hardware,
            "troubles": list(facts.troubles),
        },
        "energy": None if facts.energy is None else _energy_document(facts.energy, facts.opened_at),
        "emissions_g": range_to_json(None if total is None else emissions_g(total, factor)),
        "factor": asdict(factor),
        "files": {} if provenance is None else {provenance.path: provenance.sha256},
        "recorded": {"metrics": dict(record.metrics), "tags": dict(record.tags)},
        "run": dict(run),
    }
    number = "" if base.seals == 0 else f".{base.seals + 1}"
    stem, dot, extension = Artifact.EVIDENCE.rpartition(".")
    return Seal(
        path=f"{stem}{number}{dot}{extension}",
        param=Param.EVIDENCE_SHA256 + number,
        document=rfc8785.dumps(canonical(document)),
        provenance=provenance,
    )


def energy_hours(energy: RunEnergy, opened_at: str) -> tuple[Hour, ...]:
    """The attributed joules by hour of UTC; none where nothing was measured."""
    total = energy.attributed_j
    if total is None:
        return ()
    power = [(point.at_s, point.power_w) for point in energy.power]
    return energy_by_hour(datetime.fromisoformat(opened_at), power, total.mid)


def _energy_document(energy: RunEnergy, opened_at: str) -> Json:
    hours = energy_hours(energy, opened_at)
    return energy_to_json(energy) | {
        "hours": [[hour.start.isoformat(), hour.energy_j] for hour in hours],
        "attributed_j": range_to_json(energy.attributed_j),
        "boundary_j": range_to_json(energy.boundary_j),
        "coverage": energy.coverage,
        "largest_gap_s": energy.largest_gap_s,
        "method": energy.method.value,
        "grade": energy.grade,
    }
