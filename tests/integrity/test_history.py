"""Audits on record in MLflow: found by staff, known to the next audit, never audited themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from mlflow_carbon.cli.audit import command
from mlflow_carbon.cli.report import command as report
from mlflow_carbon.errors import DataError, StoreError
from mlflow_carbon.evidence.history import EXPERIMENT
from mlflow_carbon.evidence.store import Query, open_store


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("history")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(address)
    experiment = client.create_experiment("work", artifact_location=(folder / "work").as_uri())
    # Where a server would keep them; the default of a bare SQLite store is the working directory.
    client.create_experiment(
        EXPERIMENT,
        artifact_location=(folder / "audits").as_uri(),
        tags={"mlflow_carbon.audits": "true"},
    )
    for number in range(3):
        run = client.create_run(experiment, run_name=f"run-{number}")
        client.log_metric(run.info.run_id, "accuracy", 0.9)
        client.set_terminated(run.info.run_id)
    return address


def _work(uri: str) -> tuple[MlflowClient, str]:
    """A client, and the id of the experiment that is audited."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("work")
    assert experiment is not None
    return client, experiment.experiment_id


def _audit(uri: str, out: Path, *more: str) -> dict[str, object]:
    arguments = ["--store", uri, "--out", str(out), "--format", "json", "--fail-on", "never", *more]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    data: dict[str, object] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return data | {"output": result.output}


def test_the_second_audit_is_compared_with_the_first_on_record(uri: str, tmp_path: Path) -> None:
    first = _audit(uri, tmp_path, "--record", "--as-of", "2099-01-01")
    assert first["change"] is None
    assert "On record: experiment" in str(first["output"])
    second = _audit(uri, tmp_path, "--record", "--compare", "last", "--as-of", "2099-01-08")
    change = second["change"]
    assert isinstance(change, dict)
    assert change["new"] == change["resolved"] == 0
    assert change["remaining"] > 0
    assert change["oldest"].startswith("2099-01-01")

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    assert runs[0].data.metrics["answers/no_evidence"] + runs[0].data.metrics["answers/fail"] > 0
    assert not [key for key in runs[0].data.metrics if key.startswith("carbon/")]
    assert not [key for key in runs[0].data.tags if key == "mlflow_carbon.status"]

    seen = {evidence.facts["run.experiment"].value for evidence in open_store(uri).runs(Query())}
    assert seen == {"work"}

    report = Path(str(runs[0].info.artifact_uri).removeprefix("file://")) / "report.json"
    report.write_text("{}")
    with pytest.raises(StoreError, match="was changed after it was recorded"):
        _audit(uri, tmp_path, "--compare", "last", "--as-of", "2099-01-15")


@pytest.mark.parametrize("asked", ["--compare", "--since"])
def test_the_first_audit_of_its_kind_reads_everything_and_says_that_it_is_the_first(
    uri: str, tmp_path: Path, asked: str
) -> None:
    seen = _audit(uri, tmp_path, "--experiment", "work", asked, "last")
    assert "First audit" not in str(seen["output"])
    assert "is on record; --record keeps this one: everything selected" in str(seen["output"])
    assert "3 of 3 runs read." in str(seen["output"])
    assert seen["change"] is None

    filtered = ("--filter", f"metrics.accuracy > 0.0{len(asked)}")  # a question of its own
    first = _audit(uri, tmp_path, *filtered, "--record", asked, "last")
    assert "First audit on record with these policies and this selection" in str(first["output"])


def test_an_audit_on_record_is_written_again_from_the_store(uri: str, tmp_path: Path) -> None:
    """A reader who has only the store gets the report that was handed over, byte for byte."""
    told = str(_audit(uri, tmp_path / "then", "--record", "--as-of", "2099-03-01")["output"])
    run_id = told.rpartition("run ")[2].strip(" .\n")
    arguments = [f"runs:/{run_id}", "--store", uri, "--out", str(tmp_path / "again")]
    result = CliRunner().invoke(report, [*arguments, "--format", "json,html"])
    assert result.exit_code == 0, result.output
    again = (tmp_path / "again" / "report.json").read_bytes()
    assert again == (tmp_path / "then" / "report.json").read_bytes()
    assert (tmp_path / "again" / "report.html").exists()

    trained = MlflowClient(uri).search_runs(
        [MlflowClient(uri).get_experiment_by_name("work").experiment_id], max_results=1
    )
    other = [f"runs:/{trained[0].info.run_id}", *arguments[1:]]
    refused = CliRunner().invoke(report, other)
    assert isinstance(refused.exception, StoreError)
    assert "is no audit on record" in str(refused.exception)


def test_a_report_file_can_be_compared_with_too(uri: str, tmp_path: Path) -> None:
    _audit(uri, tmp_path / "one", "--as-of", "2099-02-01")
    earlier = tmp_path / "one" / "report.json"
    data = _audit(uri, tmp_path / "two", "--compare", str(earlier), "--as-of", "2099-02-02")
    assert isinstance(data["change"], dict)
    with pytest.raises(DataError, match="cannot be read"):
        _audit(uri, tmp_path / "three", "--compare", str(tmp_path / "none.json"))


def test_since_last_reads_the_runs_begun_since_and_incremental_sees_the_edited_too(
    uri: str, tmp_path: Path
) -> None:
    kept = ["--incremental", str(tmp_path / "kept"), "--experiment", "work"]
    _audit(uri, tmp_path, *kept, "--record")
    client, work_id = _work(uri)
    old = client.search_runs([work_id])[0].info.run_id
    run = client.create_run(work_id, run_name="later")
    client.set_terminated(run.info.run_id)
    client.set_tag(old, "mlflow_carbon.method", "counter")
    since = _audit(uri, tmp_path, "--since", "last", "--experiment", "work")
    assert since["selection"]["runs_read"] == 1  # type: ignore[index]
    everything = _audit(uri, tmp_path, *kept)
    assert everything["selection"]["runs_read"] == 4  # type: ignore[index]
    assert "runs new: 1, edited after they were audited: 1, gone: 0" in str(everything["output"])
    assert f"{old} (edited)" in str(everything["output"])
    assert "that audit holds" in str(_audit(uri, tmp_path, *kept)["output"])


def test_since_last_reads_the_runs_that_ended_since_also_one_that_was_running_then(
    uri: str, tmp_path: Path
) -> None:
    client, work_id = _work(uri)
    running = client.create_run(work_id, run_name="long").info.run_id
    _audit(uri, tmp_path, "--experiment", "work", "--record")
    asked = ["--store", uri, "--experiment", "work", "--since", "last", "--out", str(tmp_path)]
    nothing = CliRunner().invoke(command, asked)
    assert nothing.exit_code == 0, nothing.output
    assert "No run ended since the last audit, 2" in nothing.output

    client.set_terminated(running)
    seen = _audit(uri, tmp_path, "--experiment", "work", "--since", "last")
    assert "1 of 1 runs read." in str(seen["output"])
    assert "attributes.end_time >= " in seen["selection"]["filter"]  # type: ignore[index]


def test_a_whole_audit_is_compared_with_the_last_whole_one_not_with_a_look_at_what_was_new(
    uri: str, tmp_path: Path
) -> None:
    client, work_id = _work(uri)
    work = ["--experiment", "work", "--record"]
    _audit(uri, tmp_path, *work)
    client.set_terminated(client.create_run(work_id).info.run_id)
    new = _audit(uri, tmp_path, *work, "--since", "last")
    assert new["selection"]["runs_read"] == 1  # type: ignore[index]
    whole = _audit(uri, tmp_path, *work, "--compare", "last")
    change = whole["change"]
    assert isinstance(change, dict)
    assert change["resolved"] == 0
    assert 0 < change["new"] < change["remaining"]  # three runs were there before, one is new
    asked = ["--store", uri, "--experiment", "work", "--since", "last", "--out", str(tmp_path)]
    assert "No run ended since the last audit" in CliRunner().invoke(command, asked).output
