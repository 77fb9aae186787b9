"""A host as it is found, with its drivers opened."""

from __future__ import annotations

from pathlib import Path

from mlflow_carbon.energy.discover import discover
from mlflow_carbon.energy.sampler import Sampler
from mlflow_carbon.settings import Settings


def sampler_of(root: Path, settings: Settings | None = None) -> Sampler:
    """What would measure there: its ``meters``, and what is ``unmeasured``."""
    found = discover(settings or Settings(), root)
    sampler = Sampler(found.meters, found.unmeasured, found.drivers)
    sampler.open_drivers(60)
    return sampler
