"""The gate in front of a model registry store: the same code in the server and in clients.

The class of the store object is replaced by a subclass of itself, so the store stays what it is
for everybody who asks, its own internal calls go through the gate too, and no URI scheme changes hands.
"""

from __future__ import annotations

import functools
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri

from mlflow_carbon.gate.keeper import Keeper, Promotion
from mlflow_carbon.settings import gate_policy

_PROMPT_SOURCES = ("prompt-template", "dummy-source")
"""What MLflow (3.17, prompt/constants.py) puts where a model's files would be. A prompt is known by that, not by
its tag: anybody can tag a model, but what a version was made from cannot be changed, and these hold no model."""


class GateMixin:
    """Asks before each of the registry's calls that can promote a model version."""

    mlflow_carbon_keeper: Keeper

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> Any:
        """Gated when the alias is protected."""
        store: Any = super()
        if self.mlflow_carbon_keeper.protection.covers_alias(alias):
            self._admit(name, version, f"Alias '{alias}'")
        return store.set_registered_model_alias(name, alias, version)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Gated when the stage is protected."""
        store: Any = super()
        if self.mlflow_carbon_keeper.protection.covers_stage(stage):
            self._admit(name, version, f"Stage '{stage}'")
        return store.transition_model_version_stage(name, version, stage, archive_existing_versions)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Gated when the name is protected: only a copy of a version that passes may be created there."""
        store: Any = super()
        keeper = self.mlflow_carbon_keeper
        if keeper.protection.covers_model(name) and source not in _PROMPT_SOURCES:
            action = f"Creating a version of protected model '{name}' from {source}"
            origin = _registered_version(source)
            if origin is None:
                keeper.refuse(
                    action,
                    rule="GATE-COPY",
                    message="A version gets here only as a copy of a registered version that passes the policy.",
                    fix="Register it under another name, then copy that version here "
                    "(MlflowClient.copy_model_version).",
                )
            else:
                keeper.admit(self, Promotion(action, *origin))
        return store.create_model_version(name, source, run_id, *args, **kwargs)

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Refused when the new name is protected: a rename carries unchecked versions with it."""
        store: Any = super()
        keeper = self.mlflow_carbon_keeper
        if keeper.protection.covers_model(new_name) and not keeper.protection.covers_model(name):
            keeper.refuse(
                f"Renaming '{name}' to protected name '{new_name}'",
                rule="GATE-RENAME",
                message="A rename would bring every version of the model past the policy.",
                fix="Copy the versions that pass to the protected name instead.",
            )
        return store.rename_registered_model(name, new_name)

    def _admit(self, name: str, version: Any, aim: str) -> None:
        store: Any = self
        found = store.get_model_version(name, version)
        if found.source not in _PROMPT_SOURCES:
            action = f"{aim} for '{found.name}' version {found.version}"
            promotion = Promotion(action, found.name, str(found.version))
            self.mlflow_carbon_keeper.admit(self, promotion)


def _registered_version(source: str) -> tuple[str, str] | None:
    """(name, version) when the source names one registered version; an alias or stage may point elsewhere soon."""
    try:
        parsed = _parse_model_uri(source)
    except MlflowException:
        return None
    return (parsed.name, str(parsed.version)) if parsed.name and parsed.version else None


@functools.cache
def _guarded(store_class: Any) -> Any:
    return type(
        f"Guarded{store_class.__name__}",
        (GateMixin, store_class),
        {"__module__": store_class.__module__},
    )


def guard_store(store: Any, tracking_uri: str | None = None) -> Any:
    """The same store, guarded by the policy named in the settings; unchanged when none is."""
    policy = gate_policy()
    if policy is None or isinstance(store, GateMixin):
        return store
    store.__class__ = _guarded(store.__class__)
    store.mlflow_carbon_keeper = Keeper(policy, tracking_uri)
    return store
