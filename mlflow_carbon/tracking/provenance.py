"""The provenance record: everything known about what a run was made from, and who says so.

Too long for tags; a file beside the evidence, whose SHA-256 the sealed evidence names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import rfc8785

from mlflow_carbon import __version__, schema
from mlflow_carbon.schema import Artifact
from mlflow_carbon.tracking.facts import Json, canonical

BASE_MODEL_PARAMS = ("base_model", "base_model_revision", "base_model_license")


class Attachment(NamedTuple):
    """A file that a seal covers."""

    path: str
    content: bytes

    @property
    def sha256(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(self.content).hexdigest()


def provenance(
    run_id: str, datasets: Sequence[Json], params: Mapping[str, str], number: int
) -> Attachment | None:
    """The record of one session as canonical JSON (RFC 8785); nothing where there is nothing to tell.

    ``params`` are the run's; ``number`` counts the sessions of the run from 1.
    """
    base_model = {name: params[name] for name in BASE_MODEL_PARAMS if params.get(name)}
    if not datasets and not base_model:
        return None
    from mlflow_carbon.datasets.standard import STANDARD  # not at every program's start

    document: Json = {
        "schema": schema.SCHEMA_VERSION,
        "written_by": f"mlflow-carbon {__version__}",
        "run_id": run_id,
        "standard": STANDARD,
        "datasets": [_dataset(item) for item in datasets],
        "base_model": base_model or None,
    }
    stem, dot, extension = Artifact.PROVENANCE.rpartition(".")
    suffix = "" if number == 1 else f".{number}"
    return Attachment(f"{stem}{suffix}{dot}{extension}", rfc8785.dumps(canonical(document)))


def _dataset(item: Json) -> Json:
    """What was found and declared, and the standard's 22 fields with the gaps shown as ``null``."""
    from mlflow_carbon.datasets.record import Declared
    from mlflow_carbon.datasets.standard import entries

    declared = {
        key: Declared(str(said["value"]), str(said["declared_by"]))
        for key, said in item.get("declared", {}).items()
    }
    standard = [
        {
            "group": entry.field.group,
            "title": entry.field.title,
            "value": entry.value or None,
            "declared_by": entry.declared_by or None,
        }
        for entry in entries(str(item["name"]), declared)
    ]
    return {**item, "standard": standard}


def license_of(item: Json) -> str:
    """The declared license of a dataset of the facts, or ``""``."""
    return str(item.get("declared", {}).get("license", {}).get("value", ""))
