"""The provenance record of a run: complete, sealed, and each value with the name of who declared it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput
from mlflow.entities import InputTag as MlflowInputTag

import mlflow_carbon
from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.seal import check_run
from mlflow_carbon.evidence.sealed import Seal
from mlflow_carbon.schema import Artifact, InputTag, Tag
from tests.tracking.conftest import our_tags


def inputs_of(client: MlflowClient, run_id: str) -> dict[str, dict[str, str]]:
    """Input tags by dataset name."""
    run = client.get_run(run_id)
    return {
        i.dataset.name: {tag.key: tag.value for tag in i.tags} for i in run.inputs.dataset_inputs
    }


def provenance_of(client: MlflowClient, run_id: str, folder: Path) -> Any:
    return json.loads(
        Path(client.download_artifacts(run_id, Artifact.PROVENANCE, str(folder))).read_bytes()
    )


def test_the_provenance_record_holds_the_22_fields_with_who_declared_each_and_is_sealed(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "loans.dataset.yaml").write_text(
        "name: loans\norigin: the bank\nlicense: MIT\ndeclared_by: Ada\n"
    )
    mlflow_carbon.enable(dataset_cards=tmp_path)
    frame = pd.DataFrame({"a": range(50)})
    dataset = mlflow.data.from_pandas(frame, name="loans")
    mlflow_carbon.describe_dataset(dataset, license="CC-BY-4.0", consent="no person is in it")
    mlflow_carbon.describe_dataset("unused", license="MIT")
    given = DatasetInput(dataset._to_mlflow_entity(), [MlflowInputTag(InputTag.COLLECTED, "2024")])
    with mlflow.start_run() as active:
        measuring.log_inputs(active.info.run_id, [given])
    run_id = active.info.run_id
    record = provenance_of(measuring, run_id, tmp_path)
    (item,) = record["datasets"]
    assert item["declared"] == {
        "license": {"value": "CC-BY-4.0", "declared_by": "the training code"},
        "consent": {"value": "no person is in it", "declared_by": "the training code"},
        "origin": {"value": "the bank", "declared_by": "Ada"},
        "collected": {"value": "2024", "declared_by": "tags given to log_input"},
    }
    assert len(item["standard"]) == 22
    said = {field["title"]: field["declared_by"] for field in item["standard"] if field["value"]}
    assert said["Source, if not the issuer"] == "Ada"
    assert "Geography of storage" not in said
    tags = inputs_of(measuring, run_id)["loans"]
    assert tags[InputTag.DECLARED_BY] == (
        "the training code: license, consent; Ada: origin; tags given to log_input: collected"
    )
    assert check_run(measuring, run_id).seal is Seal.SEALED
    named = our_tags(measuring.get_run(run_id))[Tag.PROVENANCE_SHA256]
    content = (tmp_path / "provenance.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == named
    changed = tmp_path / "provenance.json"  # the copy on this side
    changed.write_bytes(content.replace(b"the bank", b"the moon"))
    measuring.log_artifact(run_id, str(changed), "mlflow_carbon")
    (change,) = check_run(measuring, run_id).changes
    assert (change.key, change.kind) == (Artifact.PROVENANCE, "changed")


def test_a_dataset_of_which_only_a_description_was_logged_has_no_hash_and_says_why(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    described = DatasetInput(Dataset("remote", "1234", "s3", '{"uri": "s3://bucket/x"}'))
    with mlflow.start_run() as active:
        measuring.log_inputs(active.info.run_id, [described])
    assert InputTag.SHA256 not in inputs_of(measuring, active.info.run_id)["remote"]
    (item,) = provenance_of(measuring, active.info.run_id, tmp_path)["datasets"]
    assert "only a description" in item["unfingerprinted"]


def test_the_base_model_is_on_the_run_and_in_the_provenance_record(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no run is active"):
        mlflow_carbon.describe_base_model("org/name")
    with mlflow.start_run() as active:
        mlflow_carbon.describe_base_model("org/name", revision="a" * 40, license="apache 2.0")
    params = {
        "base_model": "org/name",
        "base_model_revision": "a" * 40,
        "base_model_license": "Apache-2.0",
    }
    run = measuring.get_run(active.info.run_id)
    assert params.items() <= run.data.params.items()
    assert provenance_of(measuring, active.info.run_id, tmp_path)["base_model"] == params
