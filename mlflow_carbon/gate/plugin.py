"""The entry point that puts the gate in front of MLflow's model registry, in servers and clients.

MLflow loads the ``mlflow.model_registry_store`` group before it opens a registry. Loading this
module is all that matters; the function it names is never meant to be called. Nothing happens
unless ``MLFLOW_CARBON_GATE_POLICY`` is set. Only the standard library is imported here, and
whatever goes wrong stays here: MLflow's loader would otherwise fail the user's program.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from mlflow_carbon.errors import StoreError
from mlflow_carbon.settings import gate_policy

_log = logging.getLogger(__name__)


def unsupported_scheme(store_uri: str, tracking_uri: str | None = None) -> object:
    """What a registry URI of our scheme gives: an error that says what the entry point is for.

    Raises:
        StoreError: always.
    """
    del tracking_uri
    raise StoreError(
        f"{store_uri!r} is not a model registry: mlflow-carbon adds a gate to MLflow's own registries. "
        "Use the registry's own URI, for example sqlite:///mlflow.db or http://127.0.0.1:5000."
    )


def arm() -> bool:
    """Wrap the registry's ``get_store`` once, so that every store it hands out is guarded.

    The store's guard is imported when the first store is opened: MLflow is then complete. Should
    that import fail, opening the registry fails; a gate that was asked for never falls open.
    """
    if gate_policy() is None:
        return False
    from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry as Registry

    original = Registry.get_store
    if getattr(original, "mlflow_carbon_gate", False):
        return True

    @functools.wraps(original)
    def get_store(self: Any, store_uri: str | None = None, tracking_uri: str | None = None) -> Any:
        from mlflow_carbon.gate.registry import guard_store

        return guard_store(original(self, store_uri, tracking_uri), tracking_uri)

    get_store.mlflow_carbon_gate = True  # type: ignore[attr-defined]  # marks the wrapper as ours
    Registry.get_store = get_store
    return True


try:
    arm()
except Exception:  # noqa: BLE001 - the edge: an entry point that raises makes `import mlflow` fail
    _log.exception("The promotion gate could not be armed; the model registry is NOT protected.")
