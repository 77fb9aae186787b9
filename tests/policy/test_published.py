"""The published JSON schema is the loader's own form, and tells good from bad as far as a schema can."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from mlflow_carbon import resources
from mlflow_carbon.policy import published
from mlflow_carbon.policy.load import shipped_packs
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node, read_tree
from tests.policy.conftest import policy_text

SCHEMA = resources.policies() / "schema" / "policy.schema.json"


def plain(node: Node) -> Any:
    if isinstance(node, Entries):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def faults(text: str) -> list[str]:
    tree, _ = read_tree(text, "policy.yaml")
    validator = jsonschema.Draft202012Validator(published.json_schema())
    return [error.message for error in validator.iter_errors(plain(tree))]


def test_the_published_schema_is_the_one_the_loader_uses() -> None:
    jsonschema.Draft202012Validator.check_schema(published.json_schema())
    written = SCHEMA.read_text(encoding="utf-8")
    assert written == published.text(), "run: mlflow-carbon policy schema > " + str(SCHEMA)


@pytest.mark.parametrize("name", sorted(shipped_packs()))
def test_every_shipped_pack_is_valid_by_the_schema(name: str) -> None:
    assert faults(shipped_packs()[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "body",
    [
        "asert: {metric: a, at_most: 1}",
        "assert: {metric: a, at_mots: 1}",
        "assert: {metric: a, at_most: [1]}",
        "assert: {metric: a}",
        "assert: {run: statsu, equals: FINISHED}",
        "assert: {all: []}",
        "on_missing: pass",
        "assert: {tag: a, present: false}",
    ],
)
def test_an_editor_shows_what_the_loader_would_refuse(body: str) -> None:
    assert faults(policy_text("assert: {metric: a, at_most: 1}")) == []
    assert faults(policy_text(body))
