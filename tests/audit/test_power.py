"""Power over time in a report is what the store has, in order of time, and never invented."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric as MlflowMetric

from mlflow_carbon.audit.power import STEPS, curve
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.schema import Metric

READINGS = st.lists(st.tuples(st.integers(0, 10**13), st.floats()), max_size=400)


@given(READINGS)
def test_a_curve_goes_forward_in_time_and_stays_inside_what_was_read(
    readings: list[tuple[int, float]],
) -> None:
    drawn = curve("run", "name", readings)
    known = [power_w for _, power_w in readings if math.isfinite(power_w)]
    if drawn is None:
        return
    moments = [step.at_s for step in drawn.steps]
    assert 2 <= len(moments) <= STEPS
    assert moments == sorted(set(moments))
    assert min(step.low_w for step in drawn.steps) == min(known)
    assert max(step.high_w for step in drawn.steps) == max(known)


def test_a_run_read_at_one_moment_only_has_no_curve() -> None:
    assert curve("run", "name", [(1000, 200.0), (1000, 210.0), (2000, math.nan)]) is None


@pytest.mark.parametrize("engine", ["plain", "columns"])
def test_an_audit_reads_the_power_of_the_runs_that_used_most(tmp_path: Path, engine: str) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("power", artifact_location=str(tmp_path / "artifacts"))
    for number in range(6):
        run_id = client.create_run(experiment, run_name=f"run-{number}").info.run_id
        metrics = [MlflowMetric(Metric.ENERGY_KWH, 0.1 * (number + 1), 90_000, 0)]
        metrics += [MlflowMetric(Metric.POWER_W, 100.0 + n, 30_000 * n, n) for n in range(3)]
        client.log_batch(run_id, metrics=metrics if number else metrics[:1])
        client.set_terminated(run_id)
    now = datetime.now(timezone.utc) + timedelta(minutes=1)
    request = AuditRequest(store=uri, packs=(load_pack("baseline"),), engine=engine)
    power = run_audit(request, now).power
    assert [one.name for one in power] == ["run-5", "run-4", "run-3", "run-2"]
    assert [(step.at_s, step.mean_w) for step in power[0].steps] == [
        (0.0, 100.0), (30.0, 101.0), (60.0, 102.0),
    ]  # fmt: skip
