"""Ten thousand runs on a host where everything goes wrong: not one exception, not one silent zero."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlflow_carbon.energy.nvml import Nvml
from tests.fakes.faults import faulty_runs, is_sound
from tests.fakes.gpus import Rig


def test_ten_thousand_runs_under_faults_end_in_a_labelled_figure(
    rig: Rig, nvml: Nvml, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    sound = [is_sound(run) for run in faulty_runs(rig, nvml, tmp_path, runs=10_000, seed=3)]
    assert (len(sound), sound.count(False)) == (10_000, 0)
