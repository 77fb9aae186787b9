"""The 22 fields of the Data & Trust Alliance's data provenance standard, and which a card fills.

Presence is all that is looked at: whether consent or a geography is true, only people know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_carbon.datasets.record import Declared

STANDARD = "Data & Trust Alliance, Data Provenance Standards 1.0.0"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the standard, and the card's field that holds it."""

    group: str
    title: str
    card_field: str


FIELDS = (
    Field("source", "Version of the standard", ""),
    Field("source", "Title of the data set", "name"),
    Field("source", "Unique identifier of the metadata", "id"),
    Field("source", "Where the metadata is kept", "location"),
    Field("source", "Issuer", "issuer"),
    Field("source", "Description", "description"),
    Field("provenance", "Data sets it was made from", "lineage"),
    Field("provenance", "Source, if not the issuer", "origin"),
    Field("provenance", "Geography of origin", "origin_geography"),
    Field("provenance", "Date of issue", "issued"),
    Field("provenance", "Date of the previous issue", "previous_issue"),
    Field("provenance", "Dates the data was generated", "collected"),
    Field("provenance", "Method of generation", "method"),
    Field("provenance", "Format of the data", "format"),
    Field("use", "Confidentiality class", "confidentiality"),
    Field("use", "Where consent is kept", "consent"),
    Field("use", "Privacy-enhancing measures", "privacy"),
    Field("use", "Geography of processing", "processing_geography"),
    Field("use", "Geography of storage", "storage_geography"),
    Field("use", "License", "license"),
    Field("use", "Intended use", "intended_use"),
    Field("use", "Proprietary data", "proprietary"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A field with what was said, and by whom; both empty when nobody said anything."""

    field: Field
    value: str
    declared_by: str


def entries(name: str, declared: Mapping[str, Declared]) -> tuple[Entry, ...]:
    """All 22 fields of one data set, in the standard's order; ``declared`` is by field of a card."""
    given = {"": Declared(STANDARD, "mlflow-carbon"), "name": Declared(name, "the MLflow record")}
    nothing = Declared("", "")
    found = []
    for field in FIELDS:
        said = {**declared, **given}.get(field.card_field, nothing)
        found.append(Entry(field, said.value, said.by))
    return tuple(found)
