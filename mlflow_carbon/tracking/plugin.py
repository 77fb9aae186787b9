"""The entry point ``mlflow.run_context_provider``: loaded by every ``import mlflow``, before MLflow is complete.

Standard library only, and nothing here may raise: MLflow lets anything but an
ImportError or AttributeError end the user's ``import mlflow``. Nothing can be
wrapped yet at this point, so the first store access is used to do it, once.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any


class CarbonRunContext:
    """A run context that adds nothing: it exists to get this module loaded.

    Tags returned here would also end up in dataset sources and change MLflow's dataset digests.
    """

    def in_context(self) -> bool:
        """Never: there are no tags to add."""
        return False

    def tags(self) -> dict[str, str]:
        """None."""
        return {}


def _arm() -> None:
    """Have the hooks installed at the first store access of this process, when MLflow is complete."""
    from mlflow.tracking._tracking_service.registry import TrackingStoreRegistry

    original = TrackingStoreRegistry.__dict__["get_store"]

    @functools.wraps(original)
    def get_store(self: Any, *args: Any, **kwargs: Any) -> Any:
        TrackingStoreRegistry.get_store = original
        with contextlib.suppress(ImportError):
            from mlflow_carbon.tracking.edge import harmless

            with harmless("start measuring"):
                from mlflow_carbon.tracking.hooks import install

                install()
        return original(self, *args, **kwargs)

    TrackingStoreRegistry.get_store = get_store


with contextlib.suppress(Exception):
    from mlflow_carbon.switch import may_measure

    if may_measure():
        _arm()
