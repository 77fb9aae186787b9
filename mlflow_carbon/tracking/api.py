"""What training code may call; needed by nobody, as measuring starts by itself."""

from __future__ import annotations

from typing import Any

from mlflow_carbon import settings as settings_module
from mlflow_carbon.errors import DataError
from mlflow_carbon.switch import may_measure
from mlflow_carbon.tracking import hooks
from mlflow_carbon.tracking.describe import describe_dataset
from mlflow_carbon.tracking.provenance import BASE_MODEL_PARAMS

__all__ = ["describe_base_model", "describe_dataset", "disable", "enable"]


def enable(**settings: Any) -> bool:
    """Measure the runs that start from now on, with these settings over those of environment and files.

    Returns whether measuring is on: the operator's ``MLFLOW_CARBON_ENABLED=false`` wins over code.
    Settings given while measuring is on take the place of the earlier ones for runs that start later.

    Raises:
        SettingsError: there is no such setting, or its value cannot be used.
    """
    given = settings_module.checked(settings)
    return may_measure() and hooks.install(given)


def describe_base_model(model: object, *, revision: str = "", license: str = "") -> None:  # noqa: A002 - the field's word
    """Put on the active run which model its training starts from; see ``datasets.base_model``.

    ``model``: a name on a hub (then give its commit as ``revision``), a folder, or a loaded model. Logs the
    params ``base_model``, ``base_model_revision`` and ``base_model_license``, as far as they are known.

    Raises:
        DataError: no run is active, or the model cannot be described.
    """
    import mlflow

    from mlflow_carbon.datasets.base_model import base_model

    if mlflow.active_run() is None:
        raise DataError(
            "describe_base_model(): no run is active. Call it after mlflow.start_run()."
        )
    found = base_model(model, revision=revision, license=license)
    values = (found.name, found.revision, found.license)
    known = {name: text for name, text in zip(BASE_MODEL_PARAMS, values, strict=True) if text}
    mlflow.log_params(known)


def disable() -> None:
    """Stop measuring: runs still open are published as far as they were measured."""
    hooks.uninstall()
