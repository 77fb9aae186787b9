"""The rig, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_carbon.energy.nvml import Nvml
from tests.fakes.gpus import Gpu, Rig, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def loaded(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The library in this process: the loader gives it to whoever asks for NVML by name."""
    return Rig(nvml_library, tmp_path_factory.mktemp("rig"))


@pytest.fixture
def rig(loaded: Rig) -> Iterator[Rig]:
    """A host with one GPU; afterwards with none, as other tests share this process."""
    loaded.play([Gpu()])
    yield loaded
    loaded.play([])


@pytest.fixture
def nvml(rig: Rig) -> Nvml:
    return Nvml()
