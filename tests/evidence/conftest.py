"""Real stores, seeded once: what is read back is what MLflow itself wrote."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric

from mlflow_carbon.schema import InputTag as OurTag
from mlflow_carbon.schema import Metric as OurMetric
from mlflow_carbon.schema import Tag

_NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Seven more processes that nothing here uses, and that take a minute to start on a busy machine."""

SHA_A, SHA_B = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Seeded:
    """A store and the ids of what stands in it."""

    uri: str
    parent: str
    trials: tuple[str, ...]
    failed: str
    running: str
    evaluation: str
    model: str


def dataset(name: str, context: str, sha256: str = "", **tags: str) -> DatasetInput:
    all_tags = {OurTag.CONTEXT: context, **({OurTag.SHA256: sha256} if sha256 else {})}
    all_tags.update({getattr(OurTag, key.upper()): value for key, value in tags.items()})
    return DatasetInput(
        Dataset(name=name, digest=f"{context}-1", source_type="local", source='{"uri": "x.csv"}'),
        [InputTag(key, value) for key, value in all_tags.items()],
    )


def log_energy(client: MlflowClient, run_id: str, energy_kwh: float) -> None:
    client.log_metric(run_id, OurMetric.ENERGY_KWH, energy_kwh)
    client.log_metric(run_id, OurMetric.ENERGY_KWH_LOW, energy_kwh * 0.9)
    client.log_metric(run_id, OurMetric.ENERGY_KWH_HIGH, energy_kwh * 1.1)
    client.log_metric(run_id, OurMetric.EMISSIONS_KG, energy_kwh * 0.1)
    client.set_tag(run_id, Tag.TREE, "inclusive")


def seed(uri: str) -> Seeded:
    """Fill an empty store. MLflow looks logged models up in the global store while it registers them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        return _fill(uri)


def _fill(uri: str) -> Seeded:
    """A parent with two trials (one failed), an evaluation run, a run still running, one model in two names."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("credit")
    parent = client.create_run(experiment, run_name="search", start_time=1_000_000).info.run_id
    nested = {"mlflow.parentRunId": parent}
    good = client.create_run(experiment, start_time=1_010_000, tags=nested).info.run_id
    failed = client.create_run(experiment, start_time=1_020_000, tags=nested).info.run_id
    evaluation = client.create_run(experiment, start_time=2_000_000, run_name="eval").info.run_id
    running = client.create_run(experiment, start_time=2_500_000).info.run_id
    client.log_inputs(
        parent,
        [
            dataset("loans", "training", SHA_A, rows="569", license="CC-BY-4.0"),
            dataset("loans", "testing", SHA_B, rows="many"),
        ],
    )
    client.log_inputs(good, [dataset("loans", "training", SHA_B)])
    card = {
        "license": "MIT",
        "origin": "the bank",
        "declared_by": "ann",
        "declared_at": "2026-01-02",
    }
    client.set_tag(parent, Tag.CARD_PREFIX + SHA_A[:16], json.dumps(card))
    client.set_tag(good, Tag.CARD_PREFIX + SHA_B[:16], "{not json")
    log_energy(client, parent, 3.0)
    log_energy(client, good, 1.0)
    log_energy(client, failed, 1.5)
    log_energy(client, evaluation, 0.5)
    for key, value in (("auc", 0.9), ("worst", float("inf")), ("odd", float("nan"))):
        client.log_metric(parent, key, value)
    client.log_param(parent, "a/b c.d", "x" * 6000)
    model = client.create_logged_model(experiment, name="m", source_run_id=parent)
    client.log_batch(
        evaluation,
        metrics=[Metric("auc", 0.91, 2_000_001, 0, model_id=model.model_id)],
    )
    client.log_inputs(evaluation, models=[LoggedModelInput(model.model_id)])
    client.set_terminated(good, "FINISHED", end_time=1_015_000)
    client.set_terminated(failed, "FAILED", end_time=1_030_000)
    client.set_terminated(parent, "FINISHED", end_time=1_040_000)
    client.set_terminated(evaluation, "FINISHED", end_time=2_010_000)
    client.create_registered_model("credit", tags={"owner": "ann"}, description="scores")
    client.create_model_version("credit", f"models:/{model.model_id}", parent)
    client.set_registered_model_alias("credit", "champion", "1")
    client.copy_model_version("models:/credit/1", "credit-copy")
    return Seeded(uri, parent, (good, failed), failed, running, evaluation, model.model_id)


@pytest.fixture(scope="session")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """One seeded SQLite store for all tests that only read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_CARBON_ENABLED", "false")  # comes before the tests' own environment
        return seed(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")


@pytest.fixture
def sqlite_copy(sqlite_store: Seeded, tmp_path: Path) -> Path:
    """The seeded database in a file of its own, to be spoilt."""
    return Path(shutil.copy(sqlite_store.uri.removeprefix("sqlite:///"), tmp_path / "copy.db"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def server(sqlite_store: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real ``mlflow server`` in front of the seeded store."""
    with served(sqlite_store.uri, tmp_path_factory.mktemp("server")) as address:
        yield address


@contextmanager
def served(uri: str, folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """The address of a real ``mlflow server`` in front of a store, started with these options."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *options]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **_NO_JOBS, **environment},
        )
        try:
            _await_port(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError("mlflow server did not start")
