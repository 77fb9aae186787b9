"""Every edit that MLflow allows on a finished run is named with the key that changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from mlflow_carbon.cli.verify import command
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.seal import Seals, check_run
from mlflow_carbon.evidence.sealed import Change, Seal
from mlflow_carbon.schema import Artifact, Param


def _changes(client: MlflowClient, run_id: str) -> list[tuple[str, str, str]]:
    return [(change.place, change.key, change.kind) for change in check_run(client, run_id).changes]


def test_a_run_is_sealed_as_it_ended(client: MlflowClient, run_id: str) -> None:
    check = check_run(client, run_id)
    assert check.changes == ()
    assert check.seal is Seal.SEALED


def test_a_better_metric_written_afterwards_is_named_with_both_values(
    client: MlflowClient, run_id: str
) -> None:
    client.log_metric(run_id, "accuracy", 0.99)
    check = check_run(client, run_id)
    assert check.seal is Seal.ALTERED
    assert check.changes == (Change("metric", "accuracy", "changed", "0.91", "0.99"),)
    assert "accuracy changed: 0.91 -> 0.99" in str(check.changes[0])


def test_lower_energy_written_afterwards_is_named(client: MlflowClient, run_id: str) -> None:
    client.log_metric(run_id, "carbon/energy_kwh", 1e-9, step=99)
    assert _changes(client, run_id) == [("metric", "carbon/energy_kwh", "changed")]


def test_tags_changed_removed_and_added_are_named(client: MlflowClient, run_id: str) -> None:
    client.set_tag(run_id, "team", "other")
    client.set_tag(run_id, "mlflow_carbon.grade", "A+")
    client.delete_tag(run_id, "mlflow_carbon.status")
    client.set_tag(run_id, "mlflow_carbon.phase", "evaluation")
    client.set_tag(run_id, "approved", "yes")
    assert _changes(client, run_id) == [
        ("tag", "approved", "added"),
        ("tag", "mlflow_carbon.grade", "changed"),
        ("tag", "mlflow_carbon.phase", "changed"),
        ("tag", "mlflow_carbon.status", "removed"),
        ("tag", "team", "changed"),
    ]


def test_only_additions_leave_the_sealed_part_unaltered(client: MlflowClient, run_id: str) -> None:
    client.log_metric(run_id, "f1", 0.9)
    client.log_param(run_id, "late", "1")
    check = check_run(client, run_id)
    assert check.seal is Seal.EXTENDED
    assert [change.key for change in check.changes] == ["f1", "late"]


def test_a_dataset_added_afterwards_is_named(client: MlflowClient, run_id: str) -> None:
    extra = Dataset(name="more", digest="d1", source_type="local", source="{}")
    client.log_inputs(run_id, [DatasetInput(extra, [InputTag("mlflow.data.context", "testing")])])
    assert _changes(client, run_id) == [("input", "more/d1/testing", "added")]


def test_another_end_time_is_named(client: MlflowClient, run_id: str) -> None:
    client.set_terminated(run_id, end_time=int(client.get_run(run_id).info.end_time + 3_600_000))
    assert _changes(client, run_id) == [("run", "end_time", "changed")]


def test_a_deleted_run_is_named_as_deleted(client: MlflowClient, run_id: str) -> None:
    client.delete_run(run_id)
    assert _changes(client, run_id) == [("run", "lifecycle_stage", "changed")]
    client.restore_run(run_id)
    assert check_run(client, run_id).seal is Seal.SEALED


def test_an_overwritten_document_is_found_by_its_digest(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    path = Path(client.download_artifacts(run_id, Artifact.EVIDENCE, str(tmp_path)))
    document = json.loads(path.read_bytes())
    document["run"]["metrics"]["accuracy"] = 0.99
    path.write_text(json.dumps(document))
    client.log_artifact(run_id, str(path), "mlflow_carbon")
    client.log_metric(run_id, "accuracy", 0.99)
    check = check_run(client, run_id)
    assert check.seal is Seal.ALTERED
    assert "was overwritten" in check.reason


def test_a_document_that_is_gone_is_an_alteration(
    client: MlflowClient, run_id: str, store_path: Path
) -> None:
    shutil.rmtree(store_path.parent / "artifacts" / run_id / "artifacts" / "mlflow_carbon")
    assert "is gone" in check_run(client, run_id).reason


def test_the_seal_of_another_run_does_not_fit(
    client: MlflowClient, record: Callable[[], str], tmp_path: Path
) -> None:
    donor = record()
    path = client.download_artifacts(donor, Artifact.EVIDENCE, str(tmp_path))
    digest = client.get_run(donor).data.params[Param.EVIDENCE_SHA256]
    thief = client.create_run(client.get_run(donor).info.experiment_id).info.run_id
    client.log_param(thief, Param.EVIDENCE_SHA256, digest)
    client.log_artifact(thief, path, "mlflow_carbon")
    check = check_run(client, thief)
    assert check.seal is Seal.ALTERED
    assert ("document", Artifact.EVIDENCE, "changed") in _changes(client, thief)


def test_a_resumed_run_is_sealed_again_and_compared_with_its_last_seal(
    client: MlflowClient, record: Callable[[str | None], str]
) -> None:
    run_id = record(None)
    record(run_id)
    assert f"{Param.EVIDENCE_SHA256}.2" in client.get_run(run_id).data.params
    assert check_run(client, run_id).seal is Seal.SEALED
    client.log_metric(run_id, "accuracy", 0.5)
    assert _changes(client, run_id) == [("metric", "accuracy", "changed")]


def test_a_run_of_somebody_without_the_plugin_is_unsealed_which_is_no_fault(
    client: MlflowClient,
) -> None:
    experiment = client.get_experiment_by_name("sealed")
    assert experiment is not None
    run = client.create_run(experiment.experiment_id)
    check = check_run(client, run.info.run_id)
    assert check.seal is Seal.UNSEALED
    assert "no seal" in check.reason


def test_a_note_in_the_ui_and_a_dataset_card_are_no_alteration(
    client: MlflowClient, run_id: str
) -> None:
    client.set_tag(run_id, "mlflow.note.content", "looks good")
    client.set_tag(run_id, "mlflow_carbon.card.0123456789abcdef", "{}")
    assert check_run(client, run_id).seal is Seal.SEALED


def test_verify_exits_with_one_and_names_the_key(
    uri: str, client: MlflowClient, run_id: str
) -> None:
    assert CliRunner().invoke(command, ["--store", uri, "--run", run_id]).exit_code == 0
    client.log_metric(run_id, "accuracy", 0.99)
    result = CliRunner().invoke(command, ["--store", uri, "--run", run_id])
    assert result.exit_code == 1
    assert "metric accuracy changed: 0.91 -> 0.99" in result.output
    as_json = CliRunner().invoke(command, ["--store", uri, "--run", run_id, "--json"])
    assert json.loads(as_json.stdout)["changes"][0]["key"] == "accuracy"


def test_verify_of_a_model_version_looks_at_the_run_behind_it(
    uri: str, client: MlflowClient, run_id: str
) -> None:
    client.create_registered_model("credit-risk")
    client.create_model_version("credit-risk", f"runs:/{run_id}/model", run_id)
    result = CliRunner().invoke(command, ["--store", uri, "--model", "credit-risk/1"])
    assert result.exit_code == 0, result.output
    assert run_id in result.output


def test_strict_verify_of_an_experiment_tells_runs_without_a_seal(uri: str) -> None:
    result = CliRunner().invoke(command, ["--store", uri, "--experiment", "sealed", "--strict"])
    assert result.exit_code in {1, 3}
    assert "unsealed" in result.output


def test_an_unknown_run_and_an_unknown_experiment_are_clear_errors(uri: str) -> None:
    seals = Seals(uri)
    with pytest.raises(StoreError, match="cannot be read"):
        seals.check("0" * 32)
    with pytest.raises(StoreError, match="Did you mean"):
        list(seals.chosen(experiments=["seled"]))
