"""One version as every format is tested with: figures chosen so that a wrong unit shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from mlflow_carbon.export.record import Dataset, ModelRecord, Phase
from mlflow_carbon.units import Range

MADE_AT = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)

TRAINING = Phase(
    name="training",
    runs=5,
    child_runs=4,
    failed_runs=1,
    unmeasured_runs=0,
    energy_j=Range(9e6, 10.8e6, 12.6e6),  # 2.5, 3, 3.5 kWh
    boundary_j=14.4e6,  # 4 kWh
    emissions_g=Range(900.0, 1200.0, 1600.0),
    no_emissions="",
    duration_s=43_200.0,
)
EVALUATION = Phase(
    name="evaluation",
    runs=1,
    child_runs=0,
    failed_runs=0,
    unmeasured_runs=0,
    energy_j=Range.exactly(3.6e5),  # 0.1 kWh
    boundary_j=3.6e5,
    emissions_g=Range.exactly(40.0),
    no_emissions="",
    duration_s=60.0,
)
WHOLE = replace(
    TRAINING,
    name="training and evaluation",
    runs=6,
    energy_j=Range(9.36e6, 11.16e6, 12.96e6),  # 2.6, 3.1, 3.6 kWh
    boundary_j=14.76e6,  # 4.1 kWh
    emissions_g=Range(940.0, 1240.0, 1640.0),
    duration_s=43_260.0,
)


@pytest.fixture
def made_at() -> datetime:
    return MADE_AT


@pytest.fixture
def record() -> ModelRecord:
    return ModelRecord(
        name="credit risk",
        version="3",
        created=datetime(2026, 11, 20, 8, 30, tzinfo=timezone.utc),
        source="models:/m-0123456789abcdef0123456789abcdef",
        description="Scores loan applications.",
        owner="Risk Team",
        license="Apache 2.0",
        purpose="Support of loan officers",
        run_id="a" * 32,
        phases={"training": TRAINING, "evaluation": EVALUATION},
        whole=WHOLE,
        datasets=(
            Dataset(
                name="applicants",
                digest="1a2b3c4d",
                context="train",
                sha256="b" * 64,
                rows=10_000,
                license="CC-BY-4.0",
                origin="https://example.org/applicants",
                collected="2023-01-01 to 2023-12-31",
                sensitive="age, income",
                declared_by="kim@example.org",
                source='{"path": "example/applicants"}',
                source_type="hugging_face",
            ),
            Dataset(name="held out", digest="5e6f7a8b", context="test"),
        ),
        params={"optimizer": "adam", "num_parameters": "1234567"},
        metrics={"accuracy": 0.9, "carbon/energy_kwh": 1.0, "training_flop": 3.21e21},
        tags={
            "mlflow_carbon.version": "0.1.0",
            "mlflow_carbon.method": "counter",
            "mlflow_carbon.methods": '{"cpu":"counter","gpu":"sampled"}',
            "mlflow_carbon.grade": "A",
            "mlflow_carbon.hardware": "1 x NVIDIA H200",
            "mlflow_carbon.region": "FR",
            "mlflow_carbon.factor": "41.44",
            "mlflow_carbon.factor_source": "Ember (2026)",
            "mlflow_carbon.factor_basis": "lifecycle, annual average, location-based",
        },
    )


@pytest.fixture
def bare() -> ModelRecord:
    """A version of which next to nothing is on record."""
    return ModelRecord(name="m", version="1", created=None)


@pytest.fixture
def hostile(record: ModelRecord) -> ModelRecord:
    """A version whose every text tries to be more than text."""
    bad = "x\n---\nevil: true\n<script>alert(1)</script> | `rm` \u202eexe.gpj\x00 ${{7*7}} \ud800 [a](javascript:1)"
    dataset = replace(
        record.datasets[0], name=bad, license=bad, origin='https://e.org/"><b>', context=bad
    )
    return replace(
        record,
        name=bad,
        description=bad,
        owner=bad,
        license=bad,
        purpose=bad,
        source=bad,
        datasets=(dataset,),
        params={bad: bad},
        metrics={bad: 1.0},
        tags=dict.fromkeys(record.tags, bad),
    )
