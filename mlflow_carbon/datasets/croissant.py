"""Croissant JSON-LD (1.0 and 1.1, with the fields for responsible AI), read as a dataset card.

A ``@context`` is never fetched: names count by what stands after their prefix. Nothing the file points
to is opened. References to other nodes of the file are followed once, so circles do no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow_carbon.datasets.bounded import as_text, read_head
from mlflow_carbon.datasets.card import Card, make_card
from mlflow_carbon.errors import DataError

MAX_BYTES = 2_000_000
"""Descriptions of data sets with thousands of columns are some hundred kilobytes."""

_PREFIX = re.compile(r"^(?:https?://[^\s]*[/#]|[A-Za-z_]+:)")

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "name": ("name",),
    "license": ("license",),
    "origin": ("url",),
    "collected": ("dataCollectionTimeframe", "temporalCoverage"),
    "sensitive": ("personalSensitiveInformation",),
    "issuer": ("creator", "publisher", "wasAttributedTo"),
    "description": ("description",),
    "id": ("identifier", "@id"),
    "lineage": ("wasDerivedFrom", "isBasedOn"),
    "origin_geography": ("spatialCoverage",),
    "issued": ("datePublished", "dateCreated"),
    "method": ("dataCollection", "dataCollectionType", "wasGeneratedBy"),
    "privacy": ("dataManipulationProtocol",),
    "intended_use": ("dataUseCases", "usageInfo"),
    "biases": ("dataBiases",),
    "limitations": ("dataLimitations",),
}
"""Field of a card -> properties that say it, the first that is there counts."""


def read_croissant(path: Path) -> Card:
    """The card.

    Raises:
        DataError: unreadable, too large, no JSON, or no description of a data set.
    """
    content, more = read_head(path, MAX_BYTES)
    if more:
        raise DataError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB; this is no description.")
    try:
        tree = json.loads(as_text(path, content))
    except RecursionError:
        raise DataError(f"{path}: nested too deeply.") from None
    except ValueError as error:
        raise DataError(f"{path}:{getattr(error, 'lineno', 1)}: not valid JSON: {error}.") from None
    nodes = list(_nodes(tree))
    dataset = next((node for node in nodes if "Dataset" in _types(node)), None)
    if dataset is None:
        raise DataError(f"{path}: holds no node of @type Dataset; is this a Croissant file?")
    by_id = {node["@id"]: node for node in nodes if isinstance(node.get("@id"), str)}
    values = {}
    for field, names in _FIELDS.items():
        texts = (_text(dataset[name], by_id) for name in names if name in dataset)
        values[field] = next((text for text in texts if text), "")
    values["format"] = _formats(dataset.get("distribution"))
    if values["issuer"]:
        values["declared_by"] = f"{values['issuer']} (Croissant file)"
    return make_card(path, values)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """The file's node, or the nodes of its graph, with plain names."""
    found = tree.get("@graph", tree) if isinstance(tree, dict) else tree
    for node in found if isinstance(found, list) else [found]:
        if isinstance(node, dict):
            yield {_plain(name): value for name, value in node.items()}


def _plain(name: str) -> str:
    return name if name.startswith("@") else _PREFIX.sub("", name)


def _types(node: Mapping[str, Any]) -> list[str]:
    found = node.get("@type", [])
    return [
        _plain(one)
        for one in (found if isinstance(found, list) else [found])
        if isinstance(one, str)
    ]


def _text(value: Any, by_id: Mapping[str, Mapping[str, Any]]) -> str:
    """A text, the texts of a list, or the name of a node."""
    if isinstance(value, list):
        return ", ".join(text for one in value[:50] if (text := _one(one, by_id)))
    return _one(value, by_id)


def _one(value: Any, by_id: Mapping[str, Mapping[str, Any]]) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return " ".join(str(value).split())
    if not isinstance(value, dict):
        return ""
    node = {_plain(name): one for name, one in value.items()}
    reference = node.get("@id")
    if len(node) == 1 and isinstance(reference, str):
        node = {**by_id.get(reference, {}), "@id": reference}
    for name in ("name", "@value", "url", "@id"):
        if isinstance(node.get(name), str):
            return " ".join(node[name].split())
    return ""


def _formats(distribution: Any) -> str:
    files = distribution if isinstance(distribution, list) else [distribution]
    nodes = [{_plain(k): v for k, v in one.items()} for one in files if isinstance(one, dict)]
    found = {one["encodingFormat"] for one in nodes if isinstance(one.get("encodingFormat"), str)}
    return ", ".join(sorted(found)[:20])
