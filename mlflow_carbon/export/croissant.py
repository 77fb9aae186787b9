"""A Croissant description of one dataset (JSON-LD), with the fields for responsible AI that are known."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlflow_carbon.errors import DataError
from mlflow_carbon.export.record import Dataset, ModelRecord
from mlflow_carbon.export.shown import plain, to_json

CONFORMS_TO = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context every Croissant 1.0 file carries; the format fixes it."""


def render(record: ModelRecord, made_at: datetime, *, dataset: str = "") -> str:
    """The description of one of the version's datasets; what nobody declared is left out.

    Raises:
        DataError: there is none, or several and ``dataset`` names none of them.
    """
    del made_at  # the format has a date of publication, which is not this one
    return to_json(_document(_chosen(record, dataset)))


def _chosen(record: ModelRecord, name: str) -> Dataset:
    named = {one.name: one for one in reversed(record.datasets)}
    if name in named:
        return named[name]
    if len(named) == 1 and not name:
        return next(iter(named.values()))
    if not named:
        raise DataError(f"{record.key}: no dataset is on record.")
    known = ", ".join(plain(one, 100) for one in sorted(named))
    raise DataError(
        f"{record.key} used several datasets: choose one by --dataset. There are: {known}."
    )


def _document(dataset: Dataset) -> dict[str, Any]:
    texts = {
        "license": dataset.license,
        "url": dataset.origin if dataset.origin.startswith(("http://", "https://")) else "",
        "rai:dataCollection": f"collected {dataset.collected}" if dataset.collected else "",
        "rai:personalSensitiveInformation": dataset.sensitive,
    }
    rows = "an unknown number of" if dataset.rows is None else str(dataset.rows)
    about = f"{dataset.name}: {rows} rows as used by an MLflow run"
    about += f", MLflow digest {dataset.digest}"
    if dataset.sha256:
        about += f", sha256 of the content {dataset.sha256}"
    if dataset.origin:
        about += f", from {dataset.origin}"
    if dataset.declared_by:
        about += f"; described by {dataset.declared_by}"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": dataset.name,
        "description": about,
        **{name: text for name, text in texts.items() if text},
    }
