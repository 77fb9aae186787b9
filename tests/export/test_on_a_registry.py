"""The command on a real store: which runs are added up, and what is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import DatasetInput, InputTag

from mlflow_carbon.cli.export import command
from mlflow_carbon.errors import DataError, OutputError, StoreError
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.export.record import ModelRecord, read_record

BASIS = "lifecycle, annual average, location-based"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One version trained by a parent run with two children, one of them failed; figures by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_CARBON_ENABLED", "false")
        uri = seeded(tmp_path_factory)
        mlflow.set_tracking_uri(None)
        yield uri


def seeded(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)  # a registry looks for logged models in the store that is set
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(folder / "a").as_uri())
    parent = run(client, experiment, 0.5)
    for energy_kwh, status in ((1.0, "FINISHED"), (2.0, "FAILED")):
        run(client, experiment, energy_kwh, status, parent=parent)
    dataset = from_numpy(np.zeros((4, 2)), name="zeros")._to_mlflow_entity()
    tags = [InputTag("mlflow.data.context", "train"), InputTag("mlflow_carbon.license", "MIT")]
    client.log_inputs(parent, [DatasetInput(dataset, tags)])
    client.create_registered_model("credit", tags={"owner": "Risk Team", "license": "MIT"})
    client.create_model_version("credit", f"runs:/{parent}/model", parent)
    mixed = run(client, experiment, 1.0)
    run(client, experiment, 1.0, basis="direct, annual average, location-based", parent=mixed)
    run(client, experiment, None, parent=mixed)
    client.create_model_version("credit", f"runs:/{mixed}/model", mixed)
    trained = run(client, experiment, 1.0)
    model = client.create_logged_model(experiment, source_run_id=trained)
    client.finalize_logged_model(model.model_id, "READY")
    tested = run(client, experiment, 0.25)
    client.log_metric(tested, "accuracy", 0.9, model_id=model.model_id)
    client.create_model_version("credit", f"models:/{model.model_id}", trained)
    two_bases = run(client, experiment, 1.0)
    run(client, experiment, 1.0, basis="direct, annual average, location-based", parent=two_bases)
    client.create_model_version("credit", f"runs:/{two_bases}/model", two_bases)
    client.set_registered_model_alias("credit", "champion", "1")
    return uri


def run(
    client: MlflowClient,
    experiment: str,
    energy_kwh: float | None,
    status: str = "FINISHED",
    basis: str = BASIS,
    parent: str = "",
) -> str:
    tags = {"mlflow_carbon.factor_basis": basis, "mlflow_carbon.factor": "500"}
    run_id = client.create_run(
        experiment, tags=tags | ({"mlflow.parentRunId": parent} if parent else {})
    ).info.run_id
    if energy_kwh is not None:
        for name, value in (
            ("energy_kwh", energy_kwh),
            ("energy_kwh_low", energy_kwh * 0.9),
            ("energy_kwh_high", energy_kwh * 1.1),
            ("boundary_energy_kwh", energy_kwh * 2),
            ("emissions_kg", energy_kwh * 0.5),
            ("duration_s", 100.0),
        ):
            client.log_metric(run_id, f"carbon/{name}", value)
    client.set_terminated(run_id, status)
    return run_id


def record(store: str, version: str) -> ModelRecord:
    client = MlflowClient(store)
    return read_record(client, client, "credit", version)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_failed_and_tuning_runs_are_part_of_the_training(store: str) -> None:
    training = record(store, "1").phases["training"]
    assert (training.runs, training.failed_runs, training.unmeasured_runs) == (3, 1, 0)
    assert training.energy_j.mid == pytest.approx(3.5 * 3.6e6)
    assert training.energy_j.low == pytest.approx(3.5 * 0.9 * 3.6e6)
    assert training.boundary_j == pytest.approx(7.0 * 3.6e6)
    assert training.emissions_g.mid == pytest.approx(1750.0)
    assert training.duration_s == 300.0


def test_emissions_on_different_bases_are_never_added_up(store: str) -> None:
    training = record(store, "2").phases["training"]
    assert training.emissions_g is None
    assert "mean different things" in training.no_emissions
    assert training.energy_j.mid == pytest.approx(2.0 * 3.6e6)
    assert training.unmeasured_runs == 1
    assert training.note == "lower bound: 1 of 3 runs have no energy on record"


def test_a_policy_sees_no_sum_of_emissions_on_different_bases_either(store: str) -> None:
    client = MlflowClient(store)
    mixed = read_version(client, client, "credit", "4").facts
    assert mixed["lineage.energy_kwh"].value == pytest.approx(2.0)
    assert "lineage.emissions_kg" not in mixed
    alike = read_version(client, client, "credit", "1").facts
    assert alike["lineage.emissions_kg"].value == pytest.approx(1.75)


def test_evaluation_runs_are_a_phase_of_their_own_and_part_of_the_whole(store: str) -> None:
    found = record(store, "3")
    assert found.phases["training"].energy_j.mid == pytest.approx(3.6e6)
    assert found.phases["evaluation"].energy_j.mid == pytest.approx(0.25 * 3.6e6)
    assert found.whole.energy_j.mid == pytest.approx(1.25 * 3.6e6)
    runs = json.loads(call("sci", "models:/credit/3", "--store", store).stdout)["runs"]
    assert (runs["all"], runs["evaluation"]) == (2, 1)


def test_owner_and_license_come_from_the_registry(store: str) -> None:
    found = record(store, "1")
    assert (found.owner, found.license) == ("Risk Team", "MIT")
    assert [(d.name, d.context, d.license) for d in found.datasets] == [("zeros", "train", "MIT")]


@pytest.mark.parametrize(
    "form", ["cyclonedx", "spdx", "gpai", "boamps", "croissant", "sci", "huggingface"]
)
def test_every_format_is_written_from_the_store(store: str, form: str) -> None:
    result = call(form, "models:/credit@champion", "--store", store)
    assert result.exit_code == 0, result.exception
    if form != "huggingface":
        assert json.loads(result.stdout)


def test_a_file_is_written_where_asked(store: str, tmp_path: Path) -> None:
    target = tmp_path / "bom.json"
    result = call(
        "cyclonedx", "models:/credit/1", "--store", store, "--spec", "1.7", "-o", str(target)
    )
    assert result.exit_code == 0
    assert json.loads(target.read_text())["specVersion"] == "1.7"
    assert str(target) in result.stderr


def test_sci_takes_its_parts_from_the_user_and_the_shipped_table(store: str) -> None:
    result = call(
        "sci", "models:/credit/1", "--store", store, "--per", "10", "--unit", "epoch",
        "--embodied", "gpu_generic*2", "--embodied", "server_base", "--pue", "1.2",
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert found["operational_g"]["mid"] == pytest.approx(7.0 * 500 * 1.2)
    assert found["embodied_g"]["low"] < found["embodied_g"]["mid"] < found["embodied_g"]["high"]
    assert found["embodied_source"] == "shipped table: gpu_generic*2, server_base; lifetime 4 years"
    assert found["sci"] is not None
    assert found["runs"] == {
        "all": 3,
        "nested": 2,
        "failed": 1,
        "evaluation": 0,
        "unmeasured": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cyclonedx", "models:/credit/99"), StoreError, "99"),
        (("cyclonedx", "models:/nobody/1"), StoreError, "nobody"),
        (("sci", "models:/credit/1", "--per", "3"), DataError, "both --per and --unit"),
        (("sci", "models:/credit/1", "--embodied", "x"), DataError, "gpu_generic"),
        (("sci", "models:/credit/1", "--embodied", "gpu_generic*x"), DataError, "how many"),
        (("boamps", "models:/credit/2"), DataError, "no dataset is on record"),
        (("spdx", "models:/credit/1", "-o", "/no/such/folder/x"), OutputError, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_told(
    store: str, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = call(*arguments, "--store", store)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
