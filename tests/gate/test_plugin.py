"""The entry point: loaded by MLflow, harmless without a policy, and at home in the MLflow installed here."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry

from mlflow_carbon.errors import StoreError
from mlflow_carbon.gate.plugin import unsupported_scheme


def test_mlflow_finds_the_entry_point() -> None:
    (found,) = (
        one for one in entry_points(group="mlflow.model_registry_store") if "carbon" in one.name
    )
    assert found.load() is unsupported_scheme


def test_our_scheme_is_no_registry_and_says_what_it_is() -> None:
    with pytest.raises(StoreError, match="adds a gate to MLflow's own registries"):
        unsupported_scheme("mlflow-carbon://x")


HOOKS = {
    "set_registered_model_alias": ["self", "name", "alias", "version"],
    "transition_model_version_stage": [
        "self",
        "name",
        "version",
        "stage",
        "archive_existing_versions",
    ],
    "create_model_version": ["self", "name", "source", "run_id", "tags"],
    "rename_registered_model": ["self", "name", "new_name"],
    "set_model_version_tag": ["self", "name", "version", "tag"],
    "delete_model_version_tag": ["self", "name", "version", "key"],
}


@pytest.mark.parametrize("name", HOOKS)
def test_mlflow_still_has_the_calls_the_gate_stands_in_front_of(name: str) -> None:
    parameters = list(inspect.signature(getattr(AbstractStore, name)).parameters)
    assert parameters[: len(HOOKS[name])] == HOOKS[name]


def test_mlflow_has_no_other_call_that_sets_an_alias_or_a_stage() -> None:
    """A new one would be a way around the gate: look at it, then add it here."""
    known = {"delete_registered_model_alias", "get_model_version_by_alias", "set_prompt_alias"}
    known |= {"delete_prompt_alias", "get_prompt_version_by_alias", *HOOKS}
    found = {name for name in dir(AbstractStore) if "alias" in name or "stage" in name}
    assert found <= known, found - known


def test_every_registry_is_opened_where_the_gate_can_see_it() -> None:
    assert list(inspect.signature(ModelRegistryStoreRegistry.get_store).parameters) == [
        "self",
        "store_uri",
        "tracking_uri",
    ]


def test_nothing_that_goes_wrong_in_the_entry_point_reaches_the_user(tmp_path: Path) -> None:
    """MLflow whose registry module is gone stands in for an MLflow that moved it."""
    program = """
import importlib.abc, sys
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow.tracking._model_registry.registry":
            raise ValueError("moved")
sys.meta_path.insert(0, Gone())
sys.modules["mlflow"] = type(sys)("mlflow")
sys.modules["mlflow"].__path__ = []
import mlflow_carbon.gate.plugin
print("alive")
"""
    environment = {"MLFLOW_CARBON_GATE_POLICY": "promotion-gate", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "alive\n"
    assert "the model registry is NOT protected" in done.stderr


def test_the_entry_point_loads_next_to_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; import mlflow_carbon.gate.plugin; "
        "print([m for m in ('mlflow', 'yaml', 'rich', 'pandas', 'mlflow_carbon.gate.registry') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
