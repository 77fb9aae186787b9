"""Energy, carbon and data provenance of MLflow runs, policy audits, and a promotion gate.

Importing this package loads the standard library only; each public name loads
its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_carbon.tracking.api import describe_base_model, describe_dataset, disable, enable

__version__ = "0.1.0"

__all__ = ["__version__", "describe_base_model", "describe_dataset", "disable", "enable"]

_PUBLIC = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> Any:
    """Load the public API when it is first used."""
    if name in _PUBLIC:
        from mlflow_carbon.tracking import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
