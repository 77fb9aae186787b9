"""The form of a policy file as JSON Schema (draft 2020-12), so that editors complete and check while one types.

Generated from the loader's own description; ``policies/schema/policy.schema.json`` is this, written out.
The loader checks more than a schema can: facts per scope, types, parameters, controls.
"""

from __future__ import annotations

import json
from typing import Any

from mlflow_carbon.evidence.model import CLOSED_FACTS, OPEN_NAMESPACES
from mlflow_carbon.policy import layout
from mlflow_carbon.policy.facts import BASELINE, MATCHED, MEMBERS, NAMESPACES
from mlflow_carbon.policy.operators import OPERATORS, Takes
from mlflow_carbon.policy.shape import LIMIT_COUNT, Field, Kind, Shape

Json = dict[str, Any]

_SCALAR: Json = {"type": ["string", "number", "boolean"]}
_CONDITION: Json = {"$ref": "#/$defs/condition"}
_PARAMETER: Json = {"type": "string", "pattern": r"^\$"}
_NUMBER: Json = {"anyOf": [{"type": "number"}, _PARAMETER]}
_TEXT: Json = {"type": ["string", "number", "boolean"]}
"""A text may be written without quotes, and then looks like a number to an editor."""

_KINDS: dict[Kind, Json] = {
    Kind.TEXT: _TEXT,
    Kind.NUMBER: {"type": "number"},
    Kind.COUNT: {"type": "integer", "minimum": 0, "maximum": LIMIT_COUNT},
    Kind.FLAG: {"type": "boolean"},
    Kind.DATE: {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    Kind.TEXTS: {"type": "array", "items": _TEXT},
    Kind.VALUE: {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
    Kind.CONDITION: _CONDITION,
    Kind.FREE: {"$ref": "#/$defs/facts"},
    Kind.FREE_LISTS: {"type": "array", "items": {"$ref": "#/$defs/facts"}},
}

_TERM: Json = {"$ref": "#/$defs/term"}
_OPERANDS: dict[Takes, Json] = {
    Takes.NUMBER: {"anyOf": [*_NUMBER["anyOf"], _TERM]},
    Takes.VALUE: {"anyOf": [_SCALAR, _TERM]},
    Takes.LIST: {"anyOf": [{"type": "array", "items": _SCALAR, "minItems": 1}, _PARAMETER]},
    Takes.TEXTS: {
        "anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, _PARAMETER]
    },
    Takes.INTERVAL: {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
    Takes.PATTERN: {"type": "string", "minLength": 1},
    Takes.TRUE: {"const": True},
    Takes.AGE: {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
    Takes.NEAR: {"$ref": "#/$defs/near"},
}


def json_schema() -> Json:
    """The schema of a policy file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:mlflow-carbon:policy:v1",
        "title": f"mlflow-carbon policy pack ({layout.API_VERSION})",
        **_object(layout.PACK),
        "$defs": {
            "condition": _condition(),
            "facts": {"type": "object", "additionalProperties": _KINDS[Kind.VALUE]},
            "term": _facts({"times": _NUMBER, "plus": _NUMBER, "minus": _NUMBER}),
            "near": _facts({"percent": _NUMBER, "of": _NUMBER}, required=["percent"]),
        },
    }


def text() -> str:
    """The schema as the file in ``policies/schema`` holds it."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _object(shape: Shape) -> Json:
    required = [key for key, field in shape.items() if field.required]
    described = {"properties": {key: _field(field) for key, field in shape.items()}}
    return {
        "type": "object",
        **described,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _field(field: Field) -> Json:
    below = _object(field.shape) if field.shape is not None else {}
    if field.kind is Kind.SHAPES:
        typed: Json = {"type": "array", "items": below}
    elif field.kind is Kind.NAMED_SHAPES:
        typed = {"type": "object", "additionalProperties": below}
    elif field.kind is Kind.SHAPE:
        typed = below
    elif field.choices:
        typed = {"enum": list(field.choices)}
    elif field.pattern:
        typed = {"type": "string", "pattern": f"^{field.pattern}$"}
    else:
        typed = _KINDS[field.kind]
    return {"description": field.describe, **typed}


def _facts(others: dict[str, Json], required: list[str] | None = None) -> Json:
    """A mapping that names one fact beside other keys."""
    properties = {prefix + name: _key(name) for prefix in ("", BASELINE) for name in NAMESPACES}
    return {
        "type": "object",
        "properties": {**properties, **others},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _key(namespace: str) -> Json:
    if namespace in OPEN_NAMESPACES or namespace == "each":
        return {"type": "string"}
    prefix = f"{namespace}."
    return {"enum": [name.removeprefix(prefix) for name in CLOSED_FACTS if name.startswith(prefix)]}


def _condition() -> Json:
    listed = {"type": "array", "items": _CONDITION, "minItems": 1}
    groups = [
        _only({"all": listed}, ["all"]),
        _only({"any": listed}, ["any"]),
        _only({"not": _CONDITION}, ["not"]),
        _only({"expr": {"type": "string"}}, ["expr"]),
        _only(
            {"for_each": _each(), "where": _CONDITION, "assert": _CONDITION}, ["for_each", "assert"]
        ),
    ]
    operands = {name: _OPERANDS[operator.takes] for name, operator in OPERATORS.items()}
    leaf = {**_facts(operands), "minProperties": 2, "maxProperties": 2}
    return {"oneOf": [*groups, leaf]}


def _each() -> Json:
    matched = [_only({name: {"type": "string"}}, [name]) for name in MATCHED]
    return {"anyOf": [{"enum": list(MEMBERS)}, *matched]}


def _only(properties: dict[str, Json], required: list[str]) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
