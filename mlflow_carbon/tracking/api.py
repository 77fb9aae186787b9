"""What training code may call; needed by nobody, as measuring starts by itself."""

from __future__ import annotations

from typing import Any

from mlflow_carbon import settings as settings_module
from mlflow_carbon.switch import may_measure
from mlflow_carbon.tracking import hooks
from mlflow_carbon.tracking.describe import describe_dataset

__all__ = ["describe_dataset", "disable", "enable"]


def enable(**settings: Any) -> bool:
    """Measure the runs that start from now on, with these settings over those of environment and files.

    Returns whether measuring is on: the operator's ``MLFLOW_CARBON_ENABLED=false`` wins over code.
    Settings given while measuring is on take the place of the earlier ones for runs that start later.

    Raises:
        SettingsError: there is no such setting, or its value cannot be used.
    """
    given = settings_module.checked(settings)
    return may_measure() and hooks.install(given)


def disable() -> None:
    """Stop measuring: runs still open are published as far as they were measured."""
    hooks.uninstall()
