"""The gate in front of a model registry store: the same code in the server and in clients.

The class of the store object is replaced by a subclass of itself, so the store stays what it is
for everybody who asks, its own internal calls go through the gate too, and no URI scheme changes hands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.base_rest_store import BaseRestStore

from mlflow_carbon.gate import caller, tags
from mlflow_carbon.gate.keeper import Keeper, Promotion
from mlflow_carbon.gate.people import REGISTERED_BY
from mlflow_carbon.gate.served import PROMPT_SOURCES, registered_version
from mlflow_carbon.policy.model import Gate
from mlflow_carbon.settings import gate_policy


class GateMixin:
    """Asks before each of the registry's calls that can promote a model version."""

    mlflow_carbon_keeper: Keeper

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> Any:
        """Gated when the alias is protected."""
        store: Any = super()
        if not self.mlflow_carbon_keeper.protection.covers_alias(alias):
            return store.set_registered_model_alias(name, alias, version)
        before = store.get_registered_model(name).aliases.get(alias)

        def write() -> Any:
            return store.set_registered_model_alias(name, alias, version)

        def undo(_: Any) -> None:
            if before is None:
                store.delete_registered_model_alias(name, alias)
            else:
                store.set_registered_model_alias(name, alias, before)

        return self._promote(name, version, f"Alias '{alias}'", write, undo)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Gated when the stage is protected. The versions before it are archived once it stands."""
        store: Any = super()

        def move(archive: bool) -> Any:
            return store.transition_model_version_stage(name, version, stage, archive)

        if not self.mlflow_carbon_keeper.protection.covers_stage(stage):
            return move(archive_existing_versions)
        before = store.get_model_version(name, version).current_stage

        def undo(_: Any) -> None:
            store.transition_model_version_stage(name, version, before, False)

        done = self._promote(name, version, f"Stage '{stage}'", lambda: move(archive=False), undo)
        return move(archive=True) if archive_existing_versions else done

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Gated when the name is protected: only a copy of a version that passes may be created there."""
        store: Any = super()
        keeper = self.mlflow_carbon_keeper

        def write() -> Any:
            given = tags if source in PROMPT_SOURCES else _starting_tags(tags)
            return store.create_model_version(name, source, run_id, given, *args, **kwargs)

        if not keeper.protection.covers_model(name) or source in PROMPT_SOURCES:
            return write()
        action = f"A version of protected model '{name}' from {source}"
        origin = registered_version(source)
        if origin is None:
            keeper.refuse(
                action,
                rule="GATE-COPY",
                message="A version gets here only as a copy of a registered version that passes the policy.",
                fix="Register it under another name, then copy that version here "
                "(MlflowClient.copy_model_version).",
            )

        def undo(created: Any) -> None:
            store.delete_model_version(name, created.version)

        return keeper.promote(self, Promotion(action, *origin, write, undo))

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

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> Any:
        """Refused when the tag is evidence that this caller may not write."""
        store: Any = super()
        self._check_tag(name, version, tag.key, str(tag.value))
        return store.set_model_version_tag(name, version, tag)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> Any:
        """Refused when the tag is evidence that this caller may not write."""
        store: Any = super()
        if tags.is_reserved(key):
            found = store.get_model_version(name, version).tags.get(key, "")
            self._check_tag(name, version, key, found)
        return store.delete_model_version_tag(name, version, key)

    def _promote(
        self,
        name: str,
        version: Any,
        aim: str,
        write: Callable[[], Any],
        undo: Callable[[Any], object],
    ) -> Any:
        store: Any = self
        found = store.get_model_version(name, version)
        if found.source in PROMPT_SOURCES:
            return write()
        action = f"{aim} for '{found.name}' version {found.version}"
        promotion = Promotion(action, found.name, str(found.version), write, undo)
        return self.mlflow_carbon_keeper.promote(self, promotion)

    def _check_tag(self, name: str, version: Any, key: str, value: str) -> None:
        if not tags.is_reserved(key):
            return
        keeper, who = self.mlflow_carbon_keeper, caller.current()
        pack = keeper.rulebook.pack
        gate = pack.gate if pack and pack.gate else Gate()
        action = f"Writing evidence tag '{key}' of '{name}' version {version}"
        if reason := tags.why_not(gate, who, key, value, (name, str(version))):
            keeper.refuse(
                action,
                rule="GATE-EVIDENCE-TAG",
                message=f"It is evidence, and {reason}.",
                fix="Let somebody whom the policy names do it.",
            )
        keeper.note("written", action)


def _starting_tags(given: Any) -> list[Any]:
    """What a new version may be tagged with. Evidence tags copied from elsewhere would be about elsewhere."""
    kept = [tag for tag in given or [] if not tags.is_reserved(tag.key)]
    who = caller.current()
    return [*kept, ModelVersionTag(REGISTERED_BY, who.user)] if who.proven else kept


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
    enforces = not isinstance(store, BaseRestStore)
    store.mlflow_carbon_keeper = Keeper(policy, tracking_uri, enforces=enforces)
    store.__class__ = _guarded(store.__class__)
    return store
