"""What is measured, whoever starts and ends the run, in one process with a SQLite store."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import fluent

from mlflow_carbon.schema import Artifact, Metric, Param, Tag
from tests.tracking.conftest import burn, our_tags, ours


def only_run(client: MlflowClient) -> mlflow.entities.Run:
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    return client.get_run(run.info.run_id)


def test_a_run_of_the_fluent_api_carries_energy_carbon_and_how_they_are_known(
    measuring: MlflowClient,
) -> None:
    with mlflow.start_run():
        mlflow.log_metric("loss", 0.5)
        burn(0.3)
    run = only_run(measuring)
    figures, tags = ours(run), our_tags(run)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.5
    assert (
        figures[Metric.ENERGY_KWH_LOW]
        <= figures[Metric.ENERGY_KWH]
        <= figures[Metric.ENERGY_KWH_HIGH]
    )
    assert (
        figures[Metric.EMISSIONS_KG_LOW]
        <= figures[Metric.EMISSIONS_KG]
        <= figures[Metric.EMISSIONS_KG_HIGH]
    )
    assert figures[Metric.ENERGY_KWH] > 0
    assert figures[Metric.COVERAGE] == pytest.approx(1.0, abs=0.05)
    assert (tags[Tag.STATUS], tags[Tag.EXIT], tags[Tag.REGION]) == ("measured", "finished", "FR")
    assert json.loads(tags[Tag.METHODS]).keys() >= {"cpu"}


def test_the_seal_on_the_run_is_the_hash_of_the_evidence_in_its_artifacts(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    with mlflow.start_run() as active:
        mlflow.log_param("depth", 3)
        burn(0.1)
    run = measuring.get_run(active.info.run_id)
    document = Path(
        measuring.download_artifacts(active.info.run_id, Artifact.EVIDENCE, str(tmp_path))
    ).read_bytes()
    evidence = json.loads(document)
    assert run.data.params[Param.EVIDENCE_SHA256] == hashlib.sha256(document).hexdigest()
    assert evidence["run"]["params"] == {"depth": "3"}
    assert evidence["recorded"]["metrics"][Metric.ENERGY_KWH] == ours(run)[Metric.ENERGY_KWH]
    assert evidence["factor"]["region"] == "FR"


def test_runs_made_and_ended_by_a_client_are_measured_once(measuring: MlflowClient) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    first = measuring.create_run(experiment_id).info.run_id
    burn(0.1)
    measuring.set_terminated(first)
    second = measuring.create_run(experiment_id).info.run_id
    burn(0.1)
    measuring.update_run(second, status="FAILED")
    exits = [our_tags(measuring.get_run(run_id))[Tag.EXIT] for run_id in (first, second)]
    assert exits == ["finished", "failed"]
    assert all(ours(measuring.get_run(i))[Metric.ENERGY_KWH] > 0 for i in (first, second))
    history = measuring.get_metric_history(first, Metric.ENERGY_KWH)
    assert len(history) == 1


def test_renaming_a_run_of_somebody_else_does_not_start_to_measure_it(
    measuring: MlflowClient, store_uri: str
) -> None:
    import mlflow_carbon

    mlflow_carbon.disable()
    run_id = measuring.create_run(
        measuring.get_experiment_by_name("tests").experiment_id
    ).info.run_id
    mlflow_carbon.enable()
    measuring.update_run(run_id, name="another name")
    measuring.set_tag(run_id, "mlflow.runName", "a third name")
    measuring.set_terminated(run_id)
    assert our_tags(measuring.get_run(run_id)) == {}


def test_a_failed_run_says_failed_and_the_exception_reaches_the_user(
    measuring: MlflowClient,
) -> None:
    def train() -> None:
        with mlflow.start_run():
            burn(0.05)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    run = only_run(measuring)
    assert run.info.status == "FAILED"
    assert our_tags(run)[Tag.EXIT] == "failed"


def test_a_parent_contains_its_children_and_says_so(measuring: MlflowClient) -> None:
    with mlflow.start_run() as parent:
        burn(0.1)
        with mlflow.start_run(nested=True) as child:
            burn(0.2)
    outer, inner = (measuring.get_run(r.info.run_id) for r in (parent, child))
    assert our_tags(outer)[Tag.TREE] == "inclusive"
    assert Tag.TREE not in our_tags(inner)
    assert ours(outer)[Metric.CPU_ENERGY_KWH] > ours(inner)[Metric.CPU_ENERGY_KWH] > 0


def test_a_resumed_run_continues_from_what_was_recorded_and_is_sealed_again(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    with mlflow.start_run() as active:
        burn(0.2)
    run_id = active.info.run_id
    before = ours(measuring.get_run(run_id))
    with mlflow.start_run(run_id=run_id):
        burn(0.2)
    run = measuring.get_run(run_id)
    after = ours(run)
    assert after[Metric.ENERGY_KWH] > before[Metric.ENERGY_KWH]
    assert after[Metric.DURATION_S] == pytest.approx(before[Metric.DURATION_S] * 2, rel=0.5)
    assert after[Metric.COVERAGE] > 0.9
    steps = [m.step for m in measuring.get_metric_history(run_id, Metric.ENERGY_KWH)]
    assert steps == sorted(set(steps))
    second = Path(
        measuring.download_artifacts(run_id, "mlflow_carbon/evidence.2.json", str(tmp_path))
    ).read_bytes()
    assert run.data.params[Param.EVIDENCE_SHA256 + ".2"] == hashlib.sha256(second).hexdigest()
    assert json.loads(second)["previous_sha256"] == run.data.params[Param.EVIDENCE_SHA256]


def test_a_run_logged_after_the_fact_is_not_measured_and_never_zero(
    measuring: MlflowClient,
) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    an_hour_ago_ms = int((time.time() - 3600) * 1000)
    run_id = measuring.create_run(experiment_id, start_time=an_hour_ago_ms).info.run_id
    measuring.set_terminated(run_id)
    run = measuring.get_run(run_id)
    assert our_tags(run)[Tag.STATUS] == "not-measured"
    assert "after the fact" in json.loads(our_tags(run)[Tag.NOT_MEASURED])["run"]
    assert Metric.ENERGY_KWH not in ours(run)
    assert Metric.EMISSIONS_KG not in ours(run)
    assert ours(run)[Metric.COVERAGE] == 0.0
    assert ours(run)[Metric.DURATION_S] == pytest.approx(3600, abs=5)


def test_a_run_watched_in_part_only_is_partial(measuring: MlflowClient) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    started_ms = int((time.time() - 0.4) * 1000)
    run_id = measuring.create_run(experiment_id, start_time=started_ms).info.run_id
    burn(0.3)
    measuring.set_terminated(run_id)
    run = measuring.get_run(run_id)
    assert our_tags(run)[Tag.STATUS] == "partial"
    assert 0.2 < ours(run)[Metric.COVERAGE] < 0.8
    assert ours(run)[Metric.ENERGY_KWH] > 0


def test_runs_of_several_threads_share_what_was_used_at_the_same_time(
    measuring: MlflowClient,
) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    run_ids: list[str] = []
    together = threading.Barrier(3)

    def train() -> None:
        run = measuring.create_run(experiment_id)
        run_ids.append(run.info.run_id)
        together.wait()
        burn(0.2)
        together.wait()
        measuring.set_terminated(run.info.run_id)

    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    joules = [ours(measuring.get_run(i))[Metric.ENERGY_KWH] for i in run_ids]
    assert len(joules) == 3
    assert max(joules) < 0.7 * sum(joules)


def test_logging_to_an_old_run_for_a_moment_leaves_its_record_alone(
    measuring: MlflowClient,
) -> None:
    with mlflow.start_run() as active:
        burn(0.1)
    before = measuring.get_run(active.info.run_id)
    measuring.log_metric(active.info.run_id, "late_score", 0.9)
    import mlflow_carbon

    mlflow_carbon.disable()
    after = measuring.get_run(active.info.run_id)
    assert (ours(after), our_tags(after)) == (ours(before), our_tags(before))
    assert after.data.metrics["late_score"] == 0.9


def test_disable_puts_mlflow_back_as_it_was_and_publishes_open_runs(
    measuring: MlflowClient,
) -> None:
    import mlflow_carbon

    wrapped = fluent.ActiveRun.__init__
    active = mlflow.start_run()
    burn(0.1)
    mlflow_carbon.disable()
    assert fluent.ActiveRun.__init__ is not wrapped
    assert our_tags(measuring.get_run(active.info.run_id))[Tag.EXIT] == "process-exit"
    mlflow.end_run()
    assert measuring.get_run(active.info.run_id).info.status == "FINISHED"


def test_figures_are_published_while_the_run_goes_on(measuring: MlflowClient) -> None:
    import mlflow_carbon

    mlflow_carbon.enable(publish_period_s=0.1)
    with mlflow.start_run() as active:
        deadline = time.monotonic() + 20
        while Tag.STATUS not in our_tags(run := measuring.get_run(active.info.run_id)):
            assert time.monotonic() < deadline
            burn(0.05)
        assert our_tags(run)[Tag.STATUS] == "measuring"
        assert ours(run)[Metric.POWER_W] > 0
        assert Tag.EXIT not in our_tags(run)
    assert our_tags(measuring.get_run(active.info.run_id))[Tag.STATUS] == "measured"


def test_labels_of_the_settings_are_on_the_run_and_code_wins_over_the_environment(
    measuring: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow_carbon

    monkeypatch.setenv("MLFLOW_CARBON_OWNER", "somebody else")
    monkeypatch.setenv("MLFLOW_CARBON_PHASE", "training")
    mlflow_carbon.enable(project="credit", owner="team-risk", pue=1.2)
    with mlflow.start_run():
        burn(0.05)
    tags = our_tags(only_run(measuring))
    assert (tags[Tag.PROJECT], tags[Tag.OWNER], tags[Tag.PUE]) == ("credit", "team-risk", "1.2")
    assert tags[Tag.PHASE] == "training"


def test_a_run_is_measured_from_before_the_call_that_creates_it_returns(
    measuring: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = SqlAlchemyStore.create_run

    def slowly(self: SqlAlchemyStore, *args: Any, **kwargs: Any) -> Any:
        burn(0.5)
        return create(self, *args, **kwargs)

    monkeypatch.setattr(SqlAlchemyStore, "create_run", slowly)
    with mlflow.start_run() as active:
        pass
    run = measuring.get_run(active.info.run_id)
    mlflows_s = (run.info.end_time - run.info.start_time) / 1000
    assert 0.5 <= ours(run)[Metric.DURATION_S] == pytest.approx(mlflows_s, abs=0.3)
    assert ours(run)[Metric.CPU_ENERGY_KWH] > 0
    assert our_tags(run)[Tag.STATUS] == "measured"


def test_a_child_tagged_with_its_parent_later_is_contained_in_it_from_the_start(
    measuring: MlflowClient,
) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    parent = measuring.create_run(experiment_id).info.run_id
    child = measuring.create_run(experiment_id).info.run_id
    burn(0.3)
    measuring.log_batch(child, tags=[RunTag("mlflow.parentRunId", parent)])
    burn(0.1)
    measuring.set_terminated(child)
    measuring.set_terminated(parent)
    outer, inner = measuring.get_run(parent), measuring.get_run(child)
    assert our_tags(outer)[Tag.TREE] == "inclusive"
    assert ours(outer)[Metric.CPU_ENERGY_KWH] >= ours(inner)[Metric.CPU_ENERGY_KWH] * 0.99


def test_a_child_named_after_it_had_ended_is_not_contained_and_the_parent_says_so(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    experiment_id = measuring.get_experiment_by_name("tests").experiment_id
    parent = measuring.create_run(experiment_id).info.run_id
    child = measuring.create_run(experiment_id).info.run_id
    burn(0.2)
    measuring.set_terminated(child)
    measuring.set_tag(child, "mlflow.parentRunId", parent)
    measuring.set_terminated(parent)
    assert Tag.TREE not in our_tags(measuring.get_run(parent))
    evidence = measuring.download_artifacts(parent, Artifact.EVIDENCE, str(tmp_path))
    (trouble,) = json.loads(Path(evidence).read_text())["session"]["troubles"]
    assert trouble.startswith(f"run {child} was nested in this one when it was not open here")
